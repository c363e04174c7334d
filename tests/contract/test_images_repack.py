"""The contract of repacking, for the fake and the real implementation."""

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from tars import device, directory, hard_link, member, packed, symlink, tar

from isola.errors import AlreadyExists, InvalidInput, IsolaError, UnsafeArchive
from isola.host.archive.archives import Archives, LinuxArchives, RepackReport, UnpackLimits
from isola.host.files import Files, LinuxFiles
from isola.host.process import LinuxProcesses
from isola.testing.archives import FakeArchives
from isola.testing.files import FakeFiles

ROOT = (
    directory("./"),
    directory("./etc"),
    member("./etc/motd", b"hello"),
    hard_link("./etc/issue", "./etc/motd"),
    symlink("./bin", "usr/bin"),
    member("./bin2", b"x" * 5000, mode=0o4755, uid=1000, gid=2000000000),
)


@dataclass
class Place:
    """A host with an empty directory."""

    files: Files
    archives: Archives
    directory: Path

    async def repack(self, data: bytes, *, check_only: bool = False, **options: object) -> RepackReport:
        await self.files.write(self.directory / "archive", data)
        target = None if check_only else self.directory / "layer"
        return await self.archives.repack(self.directory / "archive", target, **options)  # type: ignore[arg-type]

    async def layer(self) -> bytes:
        """The tar stream that was written."""
        data = await self.files.read(self.directory / "layer")
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()


@pytest.fixture(params=["fake", "linux"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "fake":
        files = FakeFiles()
        await files.make_directory(Path("/place"))
        yield Place(files, FakeArchives(files), Path("/place"))
        return
    with tempfile.TemporaryDirectory(prefix="isola-repack-") as name:
        yield Place(LinuxFiles(), LinuxArchives(LinuxProcesses()), Path(name))


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive}


@pytest.mark.parametrize("kind", ["plain", "gzip", "bzip2", "xz", "zstd"])
async def test_without_a_subtree_the_stream_is_unchanged(place: Place, kind: str) -> None:
    data = tar(*ROOT) + bytes(5 * 512)
    report = await place.repack(packed(data, kind))
    assert await place.layer() == data
    assert report.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (report.entries, report.bytes) == (6, 5005)


async def test_checking_writes_nothing(place: Place) -> None:
    data = packed(tar(*ROOT), "gzip")
    report = await place.repack(data, check_only=True)
    assert report.diff_id == f"sha256:{hashlib.sha256(tar(*ROOT)).hexdigest()}"
    assert await place.files.names(place.directory) == ("archive",)


async def test_requested_paths_are_reported(place: Place) -> None:
    report = await place.repack(tar(*ROOT), wanted=("bin", "etc", "etc/motd", "etc/issue", "sbin/init"))
    assert report.found == {"bin": "link:usr/bin", "etc": "directory", "etc/motd": "file", "etc/issue": "file"}


async def test_a_subtree_is_extracted(place: Place) -> None:
    around = [member("metadata.yaml", b"a: b"), directory("rootfs"), directory("templates")]
    inside = [
        member("rootfs/etc/motd", b"hello", uid=7, gid=8, mode=0o4711),
        hard_link("rootfs/etc/issue", "rootfs/etc/motd"),
        symlink("rootfs/bin", "/usr/bin"),
        member("rootfs-not/x", b"y"),
        member("rootfs/long/" + "n" * 150, b"z"),
        member("rootfs/capable", b"c", pax_headers={"SCHILY.xattr.user.note": "remember", "mtime": "1600000000.25"}),
    ]
    report = await place.repack(tar(*around, *inside), subtree="rootfs", wanted=("bin",))
    found = members(await place.layer())
    assert set(found) == {".", "etc/motd", "etc/issue", "bin", "long/" + "n" * 150, "capable"}
    motd = found["etc/motd"]
    assert (motd.uid, motd.gid, motd.mode, motd.size) == (7, 8, 0o4711, 5)
    assert found["etc/issue"].linkname == "etc/motd"
    assert found["bin"].linkname == "/usr/bin"
    assert found["capable"].pax_headers["SCHILY.xattr.user.note"] == "remember"
    assert found["capable"].mtime == 1600000000.25
    assert report.entries == 6
    assert report.found == {"bin": "link:/usr/bin"}


async def test_a_sparse_file_is_filled_with_zeros(place: Place) -> None:
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as directory_, tarfile.open(fileobj=buffer, mode="w") as archive:
        path = Path(directory_) / "sparse"
        path.write_bytes(b"")
        os.truncate(path, 1 << 20)
        info = archive.gettarinfo(path, "rootfs/sparse")
        archive.addfile(info, path.open("rb"))
    await place.repack(buffer.getvalue(), subtree="rootfs")
    assert members(await place.layer())["sparse"].size == 1 << 20


async def test_device_nodes_are_left_out_of_a_subtree(place: Place) -> None:
    await place.repack(tar(directory("rootfs"), device("rootfs/null"), member("rootfs/a", b"a")), subtree="rootfs")
    assert set(members(await place.layer())) == {".", "a"}


async def test_the_result_depends_on_the_content_alone(place: Place) -> None:
    await place.repack(tar(*ROOT))
    first = await place.files.read(place.directory / "layer")
    await place.files.remove_tree(place.directory / "layer")
    await place.repack(packed(tar(*ROOT), "xz"))
    assert await place.files.read(place.directory / "layer") == first


@pytest.mark.parametrize(
    "data",
    [
        tar(member("../escape", b"x")),
        tar(member("rootfs/../../escape", b"x")),
        tar(member("rootfs/ok"), hard_link("rootfs/link", "../../etc/shadow")),
        tar(member("metadata.yaml"), hard_link("rootfs/link", "metadata.yaml")),
    ],
    ids=["parent", "parent below", "hard link", "hard link out of the subtree"],
)
async def test_hostile_archives_are_refused(place: Place, data: bytes) -> None:
    with pytest.raises(UnsafeArchive):
        await place.repack(data, subtree="rootfs")
    assert await place.files.names(place.directory) == ("archive",)


@pytest.mark.parametrize(
    "data",
    [b"", b"nonsense" * 1000, packed(tar(*ROOT), "gzip")[:-40], packed(tar(*ROOT), "zstd")[:-40], tar(*ROOT)[:1800]],
    ids=["empty", "nonsense", "cut gzip", "cut zstd", "cut tar"],
)
async def test_damage_is_refused_and_leaves_nothing(place: Place, data: bytes) -> None:
    with pytest.raises(InvalidInput):
        await place.repack(data)
    assert await place.files.names(place.directory) == ("archive",)


@pytest.mark.parametrize("limits", [UnpackLimits(entries=3), UnpackLimits(bytes=1000)], ids=["entries", "bytes"])
async def test_limits_are_enforced_on_archives(place: Place, limits: UnpackLimits) -> None:
    with pytest.raises(UnsafeArchive):
        await place.repack(packed(tar(*ROOT), "gzip"), limits=limits)
    assert await place.files.names(place.directory) == ("archive",)


async def test_nothing_is_overwritten(place: Place) -> None:
    await place.files.write(place.directory / "layer", b"mine")
    with pytest.raises(AlreadyExists):
        await place.repack(tar(*ROOT))
    assert await place.files.read(place.directory / "layer") == b"mine"


async def test_progress_adds_up(place: Place) -> None:
    data = packed(tar(*ROOT), "gzip")
    told: list[int] = []
    await place.repack(data, progress=told.append)
    assert 0 < sum(told) <= len(data)


async def test_files_are_duplicated_and_hashed(place: Place) -> None:
    await place.files.write(place.directory / "a", b"hello ")
    await place.files.write(place.directory / "b", b"world")
    await place.files.duplicate(place.directory / "a", place.directory / "c")
    assert await place.files.read(place.directory / "c") == b"hello "
    assert await place.files.read(place.directory / "c", 2) == b"he"
    assert await place.files.size(place.directory / "b") == 5
    assert await place.files.digest(place.directory / "a", place.directory / "b") == (
        hashlib.sha256(b"hello world").hexdigest(),
        11,
    )
    with pytest.raises(AlreadyExists):
        await place.files.duplicate(place.directory / "a", place.directory / "b")
    for call in (place.files.digest(place.directory / "x"), place.files.size(place.directory / "x")):
        with pytest.raises(IsolaError):
            await call


async def test_beginnings_of_files_are_returned(place: Place) -> None:
    data = tar(
        *ROOT, member("./etc/long", b"y" * 10_000), symlink("./etc/link", "long"), member("x/y", mtime=2_000_000_000)
    )
    report = await place.repack(data, heads=("etc/motd", "etc/long", "etc/link", "etc/nothing"))
    assert report.heads == {"etc/motd": b"hello", "etc/long": b"y" * 4096}
    assert report.top == ("bin", "bin2", "etc", "x")
    assert report.newest == 2_000_000_000
    assert await place.layer() == data
