"""Images for virtual machines: imports of LXD's files and of bare disks, over fakes and with real programs."""

import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from image_sources import GOOD, Bench, bench, taken
from tars import directory, member, packed, tar

from isola.errors import IsolaError, UnsafeArchive, Unsupported
from isola.host.disk_images import DiskLimits
from isola.host.linux import linux_host
from isola.images.descriptor import DISK_TYPE
from isola.images.manifest import parts_of
from isola.images.vm_layers import disk_size, unpack_disk
from isola.model.disk import DiskFormat
from isola.testing.disk_images import qcow2
from isola.testing.host import fake_host

MIB = 1 << 20
RAW = (bytes(510) + b"\x55\xaa" + b"data" * 4096).ljust(MIB, b"\0")
ISO = bytes(0x8001) + b"CD001" + bytes(MIB - 0x8006)


@pytest.fixture(params=["fake", "linux"])
async def files(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield await bench(fake_host(), "file", Path("/isola/store"), Path("/isola"))
        return
    with tempfile.TemporaryDirectory(prefix="isola-images-") as name:
        yield await bench(linux_host(), "file", Path(name) / "store", Path(name))


async def disk(made: Bench) -> bytes:
    """RAW in a qcow2 file."""
    place = made.store.directory.parent
    await made.host.files.write(place / "d.raw", RAW)
    await made.host.disk_images.convert(place / "d.raw", place / "d", format=DiskFormat.RAW, to=DiskFormat.QCOW2)
    return await made.host.files.read(place / "d")


async def unpacked(made: Bench, digest: str) -> bytes:
    target = made.store.directory.parent / "unpacked"
    await made.host.files.make_directory(target)
    await unpack_disk(made.host, made.store.path(digest), target, DiskLimits())
    assert await made.host.files.names(target) == ("disk.raw",)
    return await made.host.files.read(target / "disk.raw")


async def test_split_images_of_lxd_are_stored_as_they_are(files: Bench) -> None:
    meta, data = packed(tar(GOOD), "xz"), await disk(files)
    image = await taken(files, meta, data)
    assert (image.type, image.fingerprint) == ("virtual-machine", hashlib.sha256(meta + data).hexdigest())
    (layer,) = image.layers
    assert layer.media_type == DISK_TYPE and layer.diff_id == layer.digest
    assert [part.title for part in parts_of(await files.store.read(image.artifact))] == [
        "metadata.tar.xz", "rootfs.qcow2",
    ]  # fmt: skip
    assert await disk_size(files.store, files.host, image.layers) == MIB
    assert await unpacked(files, layer.digest) == RAW
    assert await files.scratch() == ()


@pytest.mark.parametrize("kind", ["plain", "gzip", "xz"])
async def test_unified_images_of_lxd_keep_their_tarball(files: Bench, kind: str) -> None:
    upload = packed(tar(GOOD, directory("templates"), member("rootfs.img", await disk(files))), kind)
    image = await taken(files, upload)
    assert (image.type, image.fingerprint) == ("virtual-machine", hashlib.sha256(upload).hexdigest())
    assert image.properties == {"os": "X"} and image.size == len(upload)
    assert await unpacked(files, image.layers[0].digest) == RAW
    assert await files.scratch() == ()


async def test_bare_disks_get_metadata_made_here(files: Bench) -> None:
    image = await taken(files, RAW, properties={"os": "Alpine", "architecture": "amd64"})
    assert (image.type, image.architecture, image.properties["os"]) == ("virtual-machine", "x86_64", "Alpine")
    assert await unpacked(files, image.layers[0].digest) == RAW
    again = await taken(files, await disk(files))
    assert again.type == "virtual-machine" and again.config.labels["org.isola.image.type"] == "vm"
    assert (await taken(files, ISO)).type == "virtual-machine"
    assert (await taken(files, bytes(4096), properties={"isola.type": "vm"})).type == "virtual-machine"


@pytest.mark.parametrize(
    ("uploads", "kind"),
    [
        ([qcow2(MIB, backing=112)], UnsafeArchive),
        ([tar(GOOD), qcow2(MIB, backing=112)], UnsafeArchive),
        ([tar(GOOD, member("rootfs.img", qcow2(MIB, features=4)))], UnsafeArchive),
        ([tar(GOOD, member("rootfs.img", b"no disk" * 100))], IsolaError),
        ([tar(GOOD), RAW], IsolaError),
        ([qcow2(MIB, encryption=2)], Unsupported),
        ([qcow2(1 << 60)], IsolaError),
        ([qcow2(MIB) + b"truncated"], IsolaError),
        ([b"# Disk DescriptorFile\n"], UnsafeArchive),
    ],
    ids=["backed", "split backed", "data file", "no disk", "raw in split", "encrypted", "giant", "cut", "descriptor"],
)
async def test_hostile_disks_leave_nothing(files: Bench, uploads: list[bytes], kind: type[IsolaError]) -> None:
    before = await files.store.digests()
    with pytest.raises(kind):
        await taken(files, *uploads)
    files.intake.close()
    assert await files.scratch() == () and {*await files.store.digests()} - {*before} == set()
