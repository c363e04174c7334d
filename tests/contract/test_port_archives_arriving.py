"""Archives that are unpacked while they arrive, by the fake and the real implementation."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tars import device, directory, hard_link, member, packed, symlink, tar

from isola.errors import InvalidInput, TooLarge, UnsafeArchive
from isola.host.archive.archives import Archives, LinuxArchives, UnpackLimits, UnpackReport
from isola.host.files import Files, LinuxFiles
from isola.host.process import LinuxProcesses
from isola.testing.archives import FakeArchives
from isola.testing.files import FakeFiles

TREE = tar(
    directory("./etc", mode=0o750, uid=1, gid=2),
    member("./etc/passwd", b"root:x:0:0\n", mode=0o640, uid=3, gid=4),
    hard_link("./passwd", "./etc/passwd"),
    symlink("./link", "etc/passwd"),
    device("null"),
    member("./large", bytes(range(256)) * 2048),
)
END = bytes(3 << 20)
"""Padding after an archive, more than a socket holds."""


@dataclass
class Place:
    """An empty target."""

    files: Files
    archives: Archives
    target: Path
    read: list[int] = field(default_factory=list)
    """Sizes of the blocks that were taken."""

    async def blocks(self, data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            block = data[start : start + size]
            self.read.append(len(block))
            yield block

    async def unpack(self, data: bytes, **options: object) -> UnpackReport:
        return await self.archives.unpack_stream(self.blocks(data), self.target, **options)  # type: ignore[arg-type]

    async def content(self, path: str) -> bytes:
        async with self.files.root(self.target) as root:
            return b"".join([block async for block in await root.read(path)])


@pytest.fixture(params=["fake", "linux"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "fake":
        files = FakeFiles()
        await files.make_directory(Path("/place/target"))
        yield Place(files, FakeArchives(files), Path("/place/target"))
        return
    with tempfile.TemporaryDirectory(prefix="isola-arriving-") as name:
        (Path(name) / "target").mkdir()
        yield Place(LinuxFiles(), LinuxArchives(LinuxProcesses()), Path(name) / "target")


@pytest.mark.parametrize("kind", ["none", "gzip", "bzip2", "xz", "zstd"])
async def test_an_archive_is_unpacked_in_whatever_blocks_it_comes(place: Place, kind: str) -> None:
    data = packed(TREE, kind)
    blocks = _joined(place.blocks(data[:20], 3), place.blocks(data[20:]))
    report = await place.archives.unpack_stream(blocks, place.target)
    assert report == UnpackReport(6, (256 << 11) + 11, ("null",))
    async with place.files.root(place.target) as root:
        etc, passwd = await root.stat("/etc", follow=False), await root.stat("/passwd", follow=False)
    assert (etc.mode, etc.uid, etc.gid) == (0o750, 1, 2) and (passwd.mode, passwd.uid, passwd.gid) == (0o640, 3, 4)
    assert await place.content("/link") == b"root:x:0:0\n"
    assert sum(place.read) == len(data)


async def _joined(*parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        async for block in part:
            yield block


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (tar(member("../out", b"x")), UnsafeArchive),
        (tar(symlink("l", "/"), member("l/out", b"x")), UnsafeArchive),
        (TREE[:1000], InvalidInput),
        (b"hsqs" + bytes(100), InvalidInput),
        (packed(TREE, "gzip")[:-20], InvalidInput),
    ],
)
async def test_all_of_a_refused_archive_is_read(place: Place, data: bytes, error: type[Exception]) -> None:
    """Its client hears why only when it has sent everything."""
    sent = data if error is InvalidInput and not data.startswith(b"hsqs") else data + END
    with pytest.raises(error):
        await place.unpack(sent)
    assert sum(place.read) == len(sent)


async def test_limits_are_obeyed(place: Place) -> None:
    with pytest.raises(UnsafeArchive):
        await place.unpack(TREE, limits=UnpackLimits(entries=2))
    with pytest.raises(UnsafeArchive):
        await place.unpack(TREE, limits=UnpackLimits(bytes=1000))


async def test_a_stream_that_fails_is_not_taken_for_a_whole_archive(place: Place) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield TREE
        raise TooLarge("too large")

    with pytest.raises(TooLarge):
        await place.archives.unpack_stream(failing(), place.target)


async def test_what_is_waited_for_can_be_given_up(place: Place) -> None:
    begun = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield TREE[:700]
        begun.set()
        await asyncio.Event().wait()

    unpacking = asyncio.ensure_future(place.archives.unpack_stream(silent(), place.target))
    await begun.wait()
    unpacking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unpacking
    await place.files.remove_tree(place.target)
    assert not await place.files.exists(place.target)  # nothing writes there any more
