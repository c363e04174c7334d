"""Files of the host in mounts of an instance: a client has the same permissions as root inside, not more."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from files_root import content

from isola.errors import Forbidden
from isola.host.files import Access, Changes, LinuxFiles, Root
from isola.host.proc import ProcessRef, identify
from isola.model.identity import IdRange

IDS = IdRange(1_900_019_712)
_INSIDE = 'set -e; mount -t tmpfs -o mode=755 inside "$1"; mount --bind "$2" "$1"; echo; exec sleep 600'


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory of the host: some files belong to the host's root, some to the instance."""
    with tempfile.TemporaryDirectory(prefix="isola-foreign-") as text:
        place = Path(text)
        place.chmod(0o755)
        (place / "secret").write_text("secret")
        (place / "secret").chmod(0o600)
        (place / "public").write_text("public")
        (place / "public").chmod(0o644)
        (place / "closed").mkdir(0o700)
        (place / "closed/f").write_text("within")
        (place / "tmp").mkdir()
        (place / "tmp").chmod(0o1777)
        (place / "tmp/theirs").write_text("theirs")
        (place / "own").mkdir()
        (place / "own/f").write_text("own")
        for path in (place / "own", place / "own/f"):
            os.chown(path, IDS.base, IDS.base)
        (place / "own/f").chmod(0o600)
        yield place


@pytest.fixture
def inside() -> Iterator[Path]:
    """Where it is mounted: below directories that root inside may pass, also if /tmp is a mount of the host itself."""
    with tempfile.TemporaryDirectory(prefix="isola-inside-") as text:
        Path(text).chmod(0o755)
        yield Path(text)


@pytest.fixture
def process(shared: Path, inside: Path) -> Iterator[ProcessRef]:
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _INSIDE, "sh", str(inside), str(shared)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None and program.stdout.readline() == b"\n"
            found = identify(program.pid)
            assert found is not None
            yield found
        finally:
            program.kill()


@pytest.fixture
async def root(process: ProcessRef, inside: Path) -> AsyncIterator[tuple[Root, str]]:
    """The root, and the path inside at which the directory is mounted."""
    async with LinuxFiles().root(process=process, idmap=IDS) as opened:
        yield opened, str(inside)


async def some(data: bytes) -> AsyncIterator[bytes]:
    yield data


Attempt = Callable[[Root, str], Awaitable[object]]
REFUSED: dict[str, Attempt] = {
    "read": lambda root, at: content(root, f"{at}/secret"),
    "open": lambda root, at: root.open(f"{at}/secret", Access(read=True)),
    "list": lambda root, at: root.names(f"{at}/closed"),
    "entries": lambda root, at: root.entries(f"{at}/closed"),
    "pass through": lambda root, at: content(root, f"{at}/closed/f"),
    "look through": lambda root, at: root.stat(f"{at}/closed/f"),
    "replace": lambda root, at: root.write(f"{at}/public", some(b"x"), uid=-1, gid=-1, mode=None),
    "append": lambda root, at: root.write(f"{at}/public", some(b"x"), uid=-1, gid=-1, mode=None, append=True),
    "write at": lambda root, at: root.open(f"{at}/public", Access(write=True)),
    "truncate": lambda root, at: root.change(f"{at}/public", Changes(size=0)),
    "give away": lambda root, at: root.change(f"{at}/public", Changes(uid=0, gid=0)),
    "set-user-id": lambda root, at: root.change(f"{at}/public", Changes(mode=0o4777)),
    "create": lambda root, at: root.write(f"{at}/new", some(b"x"), uid=0, gid=0, mode=None),
    "open new": lambda root, at: root.open(f"{at}/new", Access(write=True, create=True)),
    "make a directory": lambda root, at: root.create_directory(f"{at}/new", mode=0o755),
    "make a directory once": lambda root, at: root.make_directory(f"{at}/new", uid=0, gid=0, mode=0o755),
    "make a link": lambda root, at: root.create_symlink(f"{at}/new", "target"),
    "remove": lambda root, at: root.remove(f"{at}/public"),
    "remove where that is for owners": lambda root, at: root.remove(f"{at}/tmp/theirs"),
    "rename": lambda root, at: root.rename(f"{at}/public", f"{at}/other", replace=False),
    "rename into": lambda root, at: root.rename(f"{at}/own/f", f"{at}/f", replace=False),
    "rename over": lambda root, at: root.rename(f"{at}/own/f", f"{at}/tmp/theirs", replace=True),
    "take in": lambda root, at: root.link(f"{at}/secret", f"{at}/own/secret"),
    "put into": lambda root, at: root.link(f"{at}/own/f", f"{at}/f"),
}


def state(place: Path) -> list[tuple[str, int, int, int, int]]:
    found = [(path, path.lstat()) for path in sorted(place.rglob("*"))]
    return [(str(path), status.st_mode, status.st_uid, status.st_nlink, status.st_size) for path, status in found]


@pytest.mark.parametrize("what", REFUSED)
async def test_forbidden_to_root_inside(root: tuple[Root, str], shared: Path, what: str) -> None:
    before = state(shared)
    with pytest.raises(Forbidden):
        await REFUSED[what](*root)
    assert state(shared) == before


async def test_permitted_to_root_inside(root: tuple[Root, str], shared: Path) -> None:
    opened, at = root
    assert await content(opened, f"{at}/public") == b"public"
    assert (await opened.stat(f"{at}/secret")).size == 6
    assert await content(opened, f"{at}/own/f") == b"own"
    await opened.write(f"{at}/own/f", some(b"new"), uid=5, gid=5, mode=0o600)
    await opened.change(f"{at}/own/f", Changes(mode=0o700, uid=3))
    await opened.write(f"{at}/tmp/mine", some(b"mine"), uid=0, gid=0, mode=0o600)
    await opened.rename(f"{at}/tmp/mine", f"{at}/own/mine", replace=False)
    await opened.remove(f"{at}/own/mine")
    assert {name for path, *_ in state(shared) if (name := Path(path).name)} >= {"f", "theirs"}
    assert (shared / "own/f").stat().st_uid == IDS.base + 3
