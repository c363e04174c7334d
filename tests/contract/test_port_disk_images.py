"""The contract of disk images, for the fake and the real implementation."""

import os
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from isola.errors import AlreadyExists, InvalidInput, IsolaError, NotFound, TooLarge, UnsafeArchive, Unsupported
from isola.host.archive.forked import Forked
from isola.host.disk_images import DiskImages, DiskLimits, LinuxDiskImages
from isola.host.files import Files, LinuxFiles
from isola.host.process import LinuxProcesses
from isola.model.disk import DiskFormat
from isola.testing.disk_images import FakeDiskImages, qcow2
from isola.testing.files import FakeFiles

MIB = 1 << 20
CLUSTER, ADDRESS = 2 << 20, 0x00FFFFFFFFFFFE00
CONTENT = b"\x55" * 65536 + bytes(range(256)) * 512


@dataclass
class Place:
    """A host with an empty directory."""

    files: Files
    images: DiskImages
    directory: Path
    real: bool

    async def raw(self, name: str = "a.raw", size: int = MIB) -> Path:
        """A disk with content at its beginning."""
        await self.files.write(self.directory / name, CONTENT.ljust(size, b"\0"))
        return self.directory / name

    async def packed(self, name: str = "a.qcow2") -> Path:
        """The same as qcow2."""
        source, target = await self.raw(f"{name}.raw"), self.directory / name
        await self.images.convert(source, target, format=DiskFormat.RAW, to=DiskFormat.QCOW2)
        return target

    async def left(self) -> set[str]:
        return set(await self.files.names(self.directory))

    async def refused(self, source: Path, kind: type[IsolaError], match: str, **options: object) -> None:
        """Nothing is left of it."""
        before = await self.left()
        for to in (DiskFormat.RAW, DiskFormat.QCOW2):
            with pytest.raises(kind, match=match):
                await self.images.convert(
                    source, self.directory / "new", format=DiskFormat.QCOW2, to=to, **options  # type: ignore[arg-type]
                )  # fmt: skip
        with pytest.raises(kind, match=match):
            await self.images.look(source, DiskFormat.QCOW2, **options)  # type: ignore[arg-type]
        assert await self.left() == before


@pytest.fixture(params=["fake", "linux"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "fake":
        files = FakeFiles()
        await files.make_directory(Path("/place"))
        yield Place(files, FakeDiskImages(files), Path("/place"), False)
        return
    with tempfile.TemporaryDirectory(prefix="isola-disks-") as name:
        yield Place(LinuxFiles(), LinuxDiskImages(Forked(LinuxProcesses())), Path(name), True)


async def test_a_disk_keeps_its_content_and_its_holes(place: Place) -> None:
    packed, back = await place.packed(), place.directory / "back.raw"
    seen: list[int] = []
    header = await place.images.header(packed)
    assert (header.format, header.size) == (DiskFormat.QCOW2, MIB)
    assert (await place.images.look(packed, DiskFormat.QCOW2)).size == MIB
    found = await place.images.convert(packed, back, format=DiskFormat.QCOW2, to=DiskFormat.RAW, progress=seen.append)
    assert found.size == MIB and 0 < found.used < MIB
    assert await place.files.read(back) == CONTENT.ljust(MIB, b"\0")
    if place.real:
        assert back.stat().st_blocks * 512 < MIB // 2 and back.stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExists):
        await place.images.convert(packed, back, format=DiskFormat.QCOW2, to=DiskFormat.RAW)
    with pytest.raises(NotFound):
        await place.images.look(place.directory / "missing", DiskFormat.QCOW2)


async def test_an_empty_disk_grows_but_does_not_shrink(place: Place) -> None:
    disk = place.directory / "root.qcow2"
    await place.images.create(disk, 10 * MIB, owner=0 if not place.real else 12345)
    assert (await place.images.header(disk)).size == 10 * MIB
    await place.images.grow(disk, 20 * MIB)
    await place.images.grow(disk, 20 * MIB)
    assert (await place.images.look(disk, DiskFormat.QCOW2)).size == 20 * MIB
    with pytest.raises(InvalidInput, match="shrink"):
        await place.images.grow(disk, 10 * MIB)
    if place.real:
        assert disk.stat().st_uid == 12345 and disk.stat().st_size < MIB


async def test_what_is_below_shows_where_a_disk_is_empty(place: Place) -> None:
    below, disk, whole = await place.raw(), place.directory / "root.qcow2", place.directory / "whole.qcow2"
    await place.images.create(disk, 3 * MIB)
    await place.images.convert(disk, whole, format=DiskFormat.QCOW2, to=DiskFormat.QCOW2, below=below)
    back = place.directory / "back.raw"
    await place.images.convert(whole, back, format=DiskFormat.QCOW2, to=DiskFormat.RAW)
    assert await place.files.read(back) == CONTENT.ljust(3 * MIB, b"\0")


async def test_limits_hold(place: Place) -> None:
    packed = await place.packed()
    await place.refused(packed, TooLarge, "too large", limits=DiskLimits(size=MIB - 512))
    await place.refused(packed, UnsafeArchive, "too much data", limits=DiskLimits(bytes=100))


@pytest.mark.parametrize(
    ("data", "kind", "match"),
    [
        (qcow2(MIB, backing=112), UnsafeArchive, "based on another file"),
        (qcow2(MIB, features=4), UnsafeArchive, "data in another file"),
        (qcow2(MIB, encryption=2), Unsupported, "Encrypted"),
        (qcow2(MIB, features=2), InvalidInput, "damaged"),
        (qcow2(MIB, features=1 << 40), InvalidInput, "damaged"),
        (qcow2(1 << 63), InvalidInput, "damaged"),
        (qcow2(0), InvalidInput, "damaged"),
        (qcow2(MIB)[:50], InvalidInput, "damaged"),
        (qcow2(MIB) + b"truncated", InvalidInput, "damaged"),
        (b"# Disk DescriptorFile\nRW 16 FLAT \"/etc/shadow\" 0\n", UnsafeArchive, "list of other files"),
        (b"LUKS\xba\xbe".ljust(4096, b"\0"), Unsupported, "LUKS"),
        (b"conectix".ljust(4096, b"\0"), Unsupported, "VHD"),
        (b"KDMV" + struct.pack("<IIQ", 1, 3, 0).ljust(2000, b"\0"), UnsafeArchive, "in other files"),
        (b"x" * 4096, InvalidInput, "not a qcow2 file"),
    ],
)  # fmt: skip
async def test_hostile_disks_are_refused_before_anything_reads_them(
    place: Place, data: bytes, kind: type[IsolaError], match: str
) -> None:
    source = place.directory / "hostile"
    await place.files.write(source, data)
    await place.refused(source, kind, match)


async def test_a_name_in_an_image_leads_nowhere() -> None:
    """Files made by the real program, whose headers are as an attacker would write them."""
    images = LinuxDiskImages(Forked(LinuxProcesses()))
    with tempfile.TemporaryDirectory(prefix="isola-disks-") as name:
        place = Path(name)
        secret = place / "secret"
        secret.write_bytes(b"SECRET".ljust(MIB, b"!"))
        for kind in ("raw", "vmdk"):
            _qemu_img("convert", "-f", "raw", "-O", kind, str(secret), str(place / f"base.{kind}"))
        flat, backed, based = place / "flat.vmdk", place / "backed.qcow2", place / "based.vmdk"
        _qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", str(flat), "1M")
        _qemu_img("create", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(backed))
        _qemu_img("create", "-f", "vmdk", "-b", str(place / "base.vmdk"), "-F", "vmdk", str(based))
        made = ((flat, DiskFormat.VMDK), (backed, DiskFormat.QCOW2), (based, DiskFormat.VMDK))
        before = set(os.listdir(place))
        for image, format in made:
            with pytest.raises(UnsafeArchive):
                await images.convert(image, place / "new", format=format, to=DiskFormat.RAW)
        assert set(os.listdir(place)) == before


async def test_a_small_file_with_a_disk_full_of_data_is_refused() -> None:
    images = LinuxDiskImages(Forked(LinuxProcesses()))
    with tempfile.TemporaryDirectory(prefix="isola-disks-") as name:
        bomb = Path(name, "bomb.qcow2")
        assert _bomb(bomb, 3 << 30) < 16 * MIB
        with pytest.raises(UnsafeArchive, match="far more data than its file") as refused:
            await images.look(bomb, DiskFormat.QCOW2, DiskLimits(ratio=100))
        assert refused.value.remedy == "raise images.limits.ratio"
        assert (await images.look(bomb, DiskFormat.QCOW2, DiskLimits(ratio=1000))).used > 3 << 30


async def test_a_truncated_disk_is_refused_and_a_whole_vmdk_is_read() -> None:
    images = LinuxDiskImages(Forked(LinuxProcesses()))
    with tempfile.TemporaryDirectory(prefix="isola-disks-") as name:
        place = Path(name)
        raw, short, vmdk = place / "a.raw", place / "short.qcow2", place / "a.vmdk"
        raw.write_bytes(os.urandom(MIB))
        await images.convert(raw, short, format=DiskFormat.RAW, to=DiskFormat.QCOW2)
        os.truncate(short, short.stat().st_size // 2)
        with pytest.raises(InvalidInput):
            await images.look(short, DiskFormat.QCOW2)
        with short.open("r+b") as file:
            file.seek(36)
            file.write(b"\xff" * 4)  # entries of its first table
        with pytest.raises(InvalidInput) as refused:
            await images.look(short, DiskFormat.QCOW2)
        said = refused.value.evidence
        assert "the disk image: Active L1 table too large" in said and "json:" not in said and "epoll" not in said
        options = ("-O", "vmdk", "-o", "subformat=streamOptimized")
        _qemu_img("convert", "-f", "raw", *options, str(raw), str(vmdk))
        await images.convert(vmdk, place / "b.raw", format=DiskFormat.VMDK, to=DiskFormat.RAW)
        assert (place / "b.raw").read_bytes() == raw.read_bytes()
        os.truncate(vmdk, vmdk.stat().st_size // 2)
        with pytest.raises(IsolaError):
            await images.convert(vmdk, place / "c.raw", format=DiskFormat.VMDK, to=DiskFormat.RAW)
        assert not (place / "c.raw").exists()


def _qemu_img(verb: str, *arguments: str) -> None:
    subprocess.run(["qemu-img", verb, "-q", *arguments], check=True)


def _bomb(path: Path, size: int) -> int:
    """A whole file whose disk has the same cluster everywhere, as often as its count of uses says; its bytes."""
    clusters = size // CLUSTER
    _qemu_img("create", "-f", "qcow2", "-o", "cluster_size=2M,refcount_bits=64", str(path), str(size))
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 90 0 2M", str(path)], check=True, capture_output=True)
    with path.open("r+b") as file:
        first, counts = (_number_at(file, at) for at in (40, 48))
        second, block = _number_at(file, first) & ADDRESS, _number_at(file, counts)
        data = _number_at(file, second) & ADDRESS
        file.seek(second)
        file.write(struct.pack(">Q", data) * clusters)
        file.seek(block + 8 * (data // CLUSTER))
        file.write(struct.pack(">Q", clusters))
    return path.stat().st_size


def _number_at(file: BinaryIO, offset: int) -> int:
    file.seek(offset)
    return int.from_bytes(file.read(8), "big")
