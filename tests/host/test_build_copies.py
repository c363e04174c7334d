"""Files of a build's context in an image layer: what is chosen, where it goes, and that links lead nowhere."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from isola.errors import InvalidInput, IsolaError
from isola.host.archive.archives import CopySource, CopyTarget, LinuxArchives
from isola.host.process import LinuxProcesses

ROOT = {
    "etc/passwd": b"root:x:0:0::/:/bin/sh\nme:x:1000:1001::/:/bin/sh\n",
    "etc/group": b"root:x:0:\nstaff:x:50:\n",
    "usr/lib/": 0o750,
    "lib": "usr/lib",
    "there/": 0o711,
    "there/file": b"old",
    "abs": "/there",
    "out": "../../../..",
    "loop": "loop",
}
CONTEXT = {
    "a.txt": b"a",
    "b.txt": b"bb",
    "run.sh": b"#!",
    "dir/": 0o700,
    "dir/x": b"x",
    "dir/sub/": 0o755,
    "dir/sub/y.txt": b"y",
    "dir/link": "x",
    "to-file": "dir/x",
    "to-dir": "/dir",
    "outside": "/etc/hostname",
    "above": "../../../../etc/hostname",
    "we ird[1]": b"w",
}


def grow(place: Path, tree: dict[str, Any]) -> Path:
    """Names with a slash at the end are directories with a mode, texts are targets of links."""
    for name, content in tree.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
            path.chmod(content)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    return place


class Bench:
    """A context, a root, and layers made of them."""

    def __init__(self, place: Path) -> None:
        place.chmod(0o755)
        self.place = place
        self.context = grow(place / "context", CONTEXT)
        self.root = grow(place / "root", ROOT)
        (self.context / "run.sh").chmod(0o755)
        self.archives = LinuxArchives(LinuxProcesses())

    def source(self, *patterns: str, **options: Any) -> CopySource:
        return CopySource(self.context, patterns, **options)

    async def layer(
        self, sources: Sequence[CopySource], to: str, *, owner: str = "", mode: str = "", root: bool = True
    ) -> dict[str, tarfile.TarInfo]:
        """Members by name; no file is left, and the layer is as reported."""
        target = self.place / "layer"
        where = CopyTarget(self.root if root else None, to, owner, mode)
        report = await self.archives.copy_layer(sources, where, target, now=7, newest=10)
        if report is None:
            assert not target.exists()
            return {}
        data = zstandard.ZstdDecompressor().decompressobj().decompress(target.read_bytes())
        target.unlink()
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = {each.name: each for each in archive}
        assert report.entries == len(found) and report.bytes == len(data)
        assert list(found) == sorted(found) and max(each.mtime for each in found.values()) <= 10
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("patterns", "to", "names"),
    [
        (["a.txt"], "/new", "new"),
        (["a.txt"], "/new/", "new new/a.txt"),
        (["a.txt"], "/deep/er/new", "deep deep/er deep/er/new"),
        (["a.txt"], "/there", "there there/a.txt"),
        (["a.txt"], "/there/file", "there there/file"),
        (["a.txt"], "/lib/a", "usr usr/lib usr/lib/a"),
        (["a.txt"], "/abs/", "there there/a.txt"),
        (["a.txt"], "/out/x", "x"),
        (["a.txt"], "/", "a.txt"),
        (["./a.txt", "/b.txt", "dir/../run.sh"], "/", "a.txt b.txt run.sh"),
        (["../../a.txt"], "/", "a.txt"),
        (["*.txt"], "/", "a.txt b.txt"),
        (["?.txt", "run.sh"], "/", "a.txt b.txt run.sh"),
        (["[ab].txt"], "/", "a.txt b.txt"),
        (["dir"], "/new", "new new/link new/sub new/sub/y.txt new/x"),
        (["dir/"], "/new/", "new new/link new/sub new/sub/y.txt new/x"),
        (["dir"], "/there", "there there/link there/sub there/sub/y.txt there/x"),
        (["d*/x"], "/", "x"),
        (["*/*/y.txt"], "/", "y.txt"),
        (["to-file"], "/new", "new"),
        (["to-file"], "/new/", "new new/to-file"),
        (["to-f*"], "/", "to-file"),
        (["to-dir"], "/new", "new new/link new/sub new/sub/y.txt new/x"),
        (["to-dir/x"], "/new", "new"),
        (["we ird[[]1]"], "/new", "new"),
    ],
)
async def test_what_goes_where(bench: Bench, patterns: list[str], to: str, names: str) -> None:
    assert " ".join(await bench.layer([bench.source(*patterns)], to)) == names


async def test_the_whole_context_keeps_its_links(bench: Bench) -> None:
    found = await bench.layer([bench.source(".")], "/all")
    assert len(found) == len(CONTEXT) + 1 and found["all/outside"].issym()
    assert found["all/above"].linkname == "../../../../etc/hostname"


async def test_owners_modes_and_directories(bench: Bench) -> None:
    (bench.context / "a.txt").chmod(0o600)
    os.chown(bench.context / "a.txt", 5, 6)
    found = await bench.layer([bench.source("a.txt", "run.sh", "dir")], "/there/new/")
    modes = {name: (each.mode, each.uid, each.gid) for name, each in found.items()}
    assert modes["there"] == (0o711, 0, 0), "as it is in the root"
    assert modes["there/new"] == (0o755, 0, 0), "the content of a directory is copied into a new one"
    assert modes["there/new/a.txt"] == (0o600, 0, 0) and modes["there/new/run.sh"] == (0o755, 0, 0)
    kept = await bench.layer([bench.source("a.txt", keep_owner=True)], "/new")
    assert (kept["new"].uid, kept["new"].gid) == (5, 6)
    whole = await bench.layer([bench.source("dir")], "/new")
    assert whole["new"].mode == 0o755
    changed = await bench.layer([bench.source("dir")], "/new", mode="700")
    assert changed["new"].mode == 0o700
    changed = await bench.layer([bench.source("dir")], "/new", mode="u=rw,go=,a+X")
    assert [changed[name].mode for name in ("new", "new/sub", "new/x")] == [0o755, 0o711, 0o600]


async def test_what_keeps_its_mode_and_time(bench: Bench) -> None:
    found = await bench.layer([bench.source("dir", keep_mode=True, modified=5)], "/new", mode="600")
    assert found["new/sub"].mode == 0o755 and {found[name].mtime for name in ("new/sub", "new/x")} == {5}


async def test_links_of_the_root_on_the_way(bench: Bench) -> None:
    bench.root.joinpath("there/sub").symlink_to("/usr/lib")
    found = await bench.layer([bench.source("dir/")], "/there")
    assert "usr/lib/y.txt" in found and not {"there/sub", "there/sub/y.txt"} & set(found)


@pytest.mark.parametrize(
    ("owner", "ids"),
    [
        ("5", (5, 5)),
        ("5:6", (5, 6)),
        ("me", (1000, 1001)),
        ("me:staff", (1000, 50)),
        ("5:staff", (5, 50)),
        (":7", (0, 7)),
    ],
)
async def test_owners_by_name_and_number(bench: Bench, owner: str, ids: tuple[int, int]) -> None:
    found = await bench.layer([bench.source("dir")], "/new/d", owner=owner, mode="640")
    assert {(each.uid, each.gid) for each in found.values()} == {ids}
    assert found["new/d/x"].mode == 0o640 and found["new"].mode == 0o755


@pytest.mark.parametrize(
    ("parents", "names"),
    [
        ("dir/sub/y.txt", "new new/dir new/dir/sub new/dir/sub/y.txt"),
        ("dir/./sub/y.txt", "new new/sub new/sub/y.txt"),
        ("./dir/sub/./y.txt", "new new/y.txt"),
        ("dir/sub", "new new/dir new/dir/sub new/dir/sub/y.txt"),
    ],
)
async def test_parents_are_kept(bench: Bench, parents: str, names: str) -> None:
    assert " ".join(await bench.layer([bench.source(parents, parents=True)], "/new/")) == names


@pytest.mark.parametrize(
    ("excludes", "names"),
    [
        (["x"], "new new/link new/sub new/sub/y.txt"),
        (["**/*.txt"], "new new/link new/sub new/x"),
        (["sub", "!sub/y.txt"], "new new/link new/sub new/sub/y.txt new/x"),
        (["*"], "new"),
    ],
)
async def test_excluded_files(bench: Bench, excludes: list[str], names: str) -> None:
    assert " ".join(await bench.layer([bench.source("dir", excludes=tuple(excludes))], "/new")) == names


async def test_only_a_directory(bench: Bench) -> None:
    assert list(await bench.layer([], "/new/one/")) == ["new", "new/one"]
    assert await bench.layer([], "/there/") == {} and await bench.layer([], "/lib/") == {}
    assert list(await bench.layer([], "/new/", root=False)) == ["new"]


@pytest.mark.parametrize(
    ("patterns", "to", "message"),
    [
        (["nothing"], "/", "file not found in build context or excluded by .dockerignore: stat nothing"),
        (["dir/nothing"], "/", "stat dir/nothing: file does not exist"),
        (["*.zip"], "/", "no source files were specified"),
        (["outside"], "/", "file does not exist"),
        (["above"], "/", "file does not exist"),
        (["dir"], "/there/file", "cannot copy to non-directory: /there/file"),
        (["a.txt"], "/there/file/x", "cannot copy to non-directory: /there/file"),
        (["a.txt"], "/loop/x", "Too many levels of symbolic links"),
        (["[a"], "/", "pattern"),
    ],
)
async def test_what_cannot_be_copied(bench: Bench, patterns: list[str], to: str, message: str) -> None:
    with pytest.raises(IsolaError) as caught:
        await bench.layer([bench.source(*patterns)], to)
    assert message in str(caught.value)
    assert not (bench.place / "layer").exists()


async def test_unknown_owners_are_refused(bench: Bench) -> None:
    for owner in ("missing", "5:missing", "99999999999"):
        with pytest.raises(InvalidInput):
            await bench.layer([bench.source("a.txt")], "/x", owner=owner)


CHANGES: list[tuple[Callable[[Path], object], bool]] = [
    (lambda context: os.utime(context / "a.txt", (1, 1)), True),
    (lambda context: (context / "b.txt").write_bytes(b"other"), True),
    (lambda context: (context / "a.txt").write_bytes(b"b"), False),
    (lambda context: (context / "a.txt").chmod(0o600), False),
    (lambda context: (context / "dir" / "new").write_bytes(b""), False),
    (lambda context: (context / "dir" / "x").rename(context / "dir" / "z"), False),
    (lambda context: os.chown(context / "a.txt", 1, 1), True),
]


@pytest.mark.parametrize(("change", "same"), CHANGES)
async def test_the_digest_is_that_of_contents(bench: Bench, change: Callable[[Path], object], same: bool) -> None:
    before = await bench.archives.survey_copy([bench.source("a.txt", "dir")])
    change(bench.context)
    assert (await bench.archives.survey_copy([bench.source("a.txt", "dir")]) == before) is same


async def test_sockets_and_devices_are_left_out(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(bench.context / "dir" / "socket"))
        os.mknod(bench.context / "dir" / "null", 0o666 | 0o020000, os.makedev(1, 3))
        assert {"new/socket", "new/null"}.isdisjoint(await bench.layer([bench.source("dir")], "/new"))
