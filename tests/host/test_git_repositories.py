"""Git repositories are fetched by the real program, from servers that are friendly, plain and hostile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from git_server import AUTHOR, TOKEN, commit, git, git_server, make_repository, publish

from isola.builds.repositories import Checkout, Repositories, require_commit
from isola.errors import Forbidden, InvalidInput, IsolaError, NotFound
from isola.host import Host
from isola.host.archive.archives import UnpackLimits
from isola.host.http import LinuxHttp
from isola.host.linux import linux_host
from isola.host.outside import limit_to_outside
from isola.model.git_address import GitAddress, parse_git

LIMITS = UnpackLimits(bytes=64 << 20, entries=1000)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, str]]:
    """The server's address, its directory, and the first commit."""
    root = tmp_path_factory.mktemp("git")
    first = make_repository(root)
    with git_server(root) as address:
        yield address, root, first


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Path]:
    """Of one build; nothing but trees and no process is left in it."""
    own = tmp_path / "closed" / "build"
    own.mkdir(parents=True)
    own.parent.chmod(0o700)
    yield own
    assert not [name for name in os.listdir(own) if name.startswith("git-")]
    assert not running(str(own))


def running(text: str) -> list[str]:
    """Processes with it in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
            found += [argv] if text in argv else []
    return found


async def checkout(
    place: Path,
    address: str,
    *,
    keep_git: bool = False,
    secrets: Mapping[str, bytes] | None = None,
    limits: UnpackLimits = LIMITS,
    host: Host | None = None,
) -> Checkout:
    found = parse_git(address)
    assert isinstance(found, GitAddress)
    own = host or linux_host()
    try:
        return await Repositories(own, place, limits, secrets or {}).checkout(found, keep_git=keep_git)
    finally:
        await own.http.close()


def names(checkout: Checkout) -> set[str]:
    return {str(path.relative_to(checkout.tree)) for path in checkout.tree.rglob("*")}


@pytest.mark.parametrize(
    ("kind", "ref", "page"),
    [
        ("moved", "", "two\n"),
        ("plain", "", "two\n"),
        ("smart", "next", "next\n"),
        ("plain", "v1", "one\n"),
        ("smart", "commit", "one\n"),
        ("plain", "commit", "one\n"),
    ],
)
async def test_references(served: tuple[str, Path, str], place: Path, kind: str, ref: str, page: str) -> None:
    address, root, first = served
    found = await checkout(place, f"{address}/{kind}/app.git#{first if ref == 'commit' else ref}")
    assert (found.tree / "server/page").read_text() == page, "attributes leave nothing out"
    assert found.modified == 1_700_000_000 and found.submodules == (page != "one\n")
    assert found.commit == git(root / "tree", "rev-parse", first if ref == "commit" else ref or "main").strip()
    assert not {".git", "x"} & names(found)
    run, link = found.tree / "run", found.tree / "etc"
    assert run.stat().st_mode & 0o7777 == 0o755 and run.stat().st_uid == 0 and os.readlink(link) == "/etc"


async def test_a_directory_and_the_repository_itself(served: tuple[str, Path, str], place: Path) -> None:
    address, _, first = served
    found = await checkout(place, f"{address}/smart/app.git#:server")
    assert names(found) == {"page", "Dockerfile"}
    kept = await checkout(place, f"{address}/smart/app.git#v1", keep_git=True)
    assert git(kept.tree, "-c", "safe.directory=*", "rev-parse", "HEAD").strip() == first
    assert git(kept.tree, "-c", "safe.directory=*", "status", "--porcelain") == ""
    assert not (kept.tree / ".git/hooks").exists() and "t0ken" not in (kept.tree / ".git/config").read_text()


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("smart/app.git#missing", NotFound, "no branch, tag or commit missing"),
        ("plain/app.git#missing", NotFound, "no branch, tag or commit missing"),
        (f"smart/app.git#{'0' * 40}", NotFound, "no branch, tag or commit"),
        (f"plain/app.git#{'0' * 40}", NotFound, "no branch, tag or commit"),
        ("smart/app.git#:missing", NotFound, "no directory missing"),
        ("smart/app.git#:etc", NotFound, "no directory etc"),
        ("smart/app.git#:run", NotFound, "no directory run"),
        ("smart/none.git", NotFound, "no Git repository at"),
        ("plain/none.git", NotFound, "no Git repository at"),
        ("login/app.git", Forbidden, "needs a login"),
        ("away/app.git", IsolaError, "Could not connect"),
    ],
)
async def test_what_is_not_there(
    served: tuple[str, Path, str], place: Path, address: str, error: type[IsolaError], message: str
) -> None:
    with pytest.raises(error, match=message):
        await checkout(place, f"{served[0]}/{address}")
    assert not os.listdir(place)


async def test_a_token(served: tuple[str, Path, str], place: Path) -> None:
    address = f"{served[0]}/login/app.git"
    for name in ("GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN.127.0.0.1"):
        found = await checkout(place, address, keep_git=True, secrets={name: TOKEN.encode() + b"\n"})
        assert not [path for path in found.tree.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    with pytest.raises(Forbidden):
        await checkout(place, address, secrets={"GIT_AUTH_TOKEN.example.org": TOKEN.encode()})


async def test_a_commit_is_required(served: tuple[str, Path, str], place: Path) -> None:
    address, _, first = served
    found = await checkout(place, f"{address}/smart/app.git#v1")
    wanted = parse_git(f"{address}/smart/app.git#v1")
    assert wanted is not None
    require_commit(found, first[:7], wanted)
    with pytest.raises(InvalidInput, match=f"expected checksum to match {'0' * 40}, got {first}"):
        require_commit(found, "0" * 40, wanted)


async def test_servers_of_the_host_itself_are_not_for_limited_callers(
    served: tuple[str, Path, str], place: Path
) -> None:
    limit_to_outside(True)
    try:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            with pytest.raises(Forbidden, match="is reached by this host alone"):
                await checkout(place, f"{served[0]}/smart/app.git".replace("127.0.0.1", host))
        with pytest.raises(Forbidden):
            await LinuxHttp().addresses("http://localhost.localdomain.localhost:1/x")
        assert await LinuxHttp().addresses("http://192.0.2.1:1/x") == ("192.0.2.1",)
    finally:
        limit_to_outside(False)


class Pinned(LinuxHttp):
    """Has looked the name up already: it cannot lead elsewhere afterwards."""

    async def addresses(self, url: str) -> tuple[str, ...]:
        """Nothing is listening there."""
        return ("127.0.0.9",)


async def test_git_connects_to_the_addresses_that_were_checked(served: tuple[str, Path, str], place: Path) -> None:
    name = served[0].replace("127.0.0.1", "localhost")
    assert (await checkout(place, f"{name}/smart/app.git")).commit
    with pytest.raises(IsolaError, match="cannot be fetched") as failed:
        await checkout(place, f"{name}/smart/app.git", host=replace(linux_host(), http=Pinned()))
    assert "connect" in failed.value.evidence


def make_bombs(root: Path) -> None:
    """``bomb.git``: a file of zeros on ``main``, and ten million small files on ``wide``."""
    work = root / "bomb"
    work.mkdir()
    git(work, "init", "--quiet", "--initial-branch=main")
    (work / "zeros").write_bytes(bytes(12 << 20))
    commit(work, "large")
    tree, kind = git(work, "hash-object", "-w", "--stdin", said="x").strip(), "100644 blob"
    for _ in range(7):
        tree = git(work, "mktree", said="".join(f"{kind} {tree}\t{number}\n" for number in range(10))).strip()
        kind = "040000 tree"
    git(work, "branch", "wide", git(work, *AUTHOR, "commit-tree", "-m", "wide", tree).strip())
    publish(work, root / "bomb.git")


async def test_bombs(served: tuple[str, Path, str], place: Path) -> None:
    address, root, _ = served
    make_bombs(root)
    small = UnpackLimits(bytes=8 << 20, entries=1000)
    for ref in ("main", "wide"):
        with pytest.raises(InvalidInput, match=r"too large"):
            await checkout(place, f"{address}/smart/bomb.git#{ref}", limits=small)
