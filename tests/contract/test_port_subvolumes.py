"""The contract of subvolumes, and of the mounts and trees that are used with them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from isola.errors import AlreadyExists, HostFailure, NotFound, StorageFull
from isola.host import Host, kernel
from isola.host.linux import linux_host
from isola.host.mounts import BindMount, DiskMount
from isola.model.identity import IdRange
from isola.testing.host import fake_host

IDS, OTHERS = IdRange(300000), IdRange(400000)


@dataclass
class Bed:
    host: Host
    place: Path

    @property
    def disk(self) -> Path:
        """Where a btrfs file system is mounted."""
        return self.place / "disk"


@pytest.fixture(params=["fake", "linux"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """A btrfs file system in an image file, mounted."""
    with tempfile.TemporaryDirectory(prefix="isola-subvolumes-") as directory:
        host: Host = fake_host() if request.param == "fake" else linux_host()
        made = Bed(host, Path(directory))
        await host.files.make_directory(made.disk)
        await host.files.allocate(made.place / "disk.img", 256 << 20)
        await host.subvolumes.format(made.place / "disk.img", "test")
        await host.mounts.disk(DiskMount(made.place / "disk.img", made.disk, "btrfs"))
        try:
            yield made
        finally:
            for mount in await host.mounts.below(made.place):
                await host.mounts.unmount(mount)


async def test_btrfs_is_recognized(bed: Bed) -> None:
    assert await bed.host.subvolumes.supports(bed.disk)
    assert not await bed.host.subvolumes.supports(bed.place)
    with pytest.raises(NotFound):
        await bed.host.subvolumes.supports(bed.place / "nothing")
    with pytest.raises(HostFailure):
        await bed.host.subvolumes.create(bed.place / "plain")
    assert await bed.host.mounts.below(bed.place) == (bed.disk,)


async def test_snapshots_are_independent(bed: Bed) -> None:
    one, two = bed.disk / "one", bed.disk / "two"
    await bed.host.subvolumes.create(one)
    await bed.host.files.write(one / "file", b"then")
    await bed.host.subvolumes.snapshot(one, two)
    await bed.host.files.write(one / "file", b"now")
    assert await bed.host.files.read(two / "file") == b"then"
    for again in (bed.host.subvolumes.create(two), bed.host.subvolumes.snapshot(one, two)):
        with pytest.raises(AlreadyExists):
            await again
    await bed.host.files.make_directory(bed.disk / "plain")
    with pytest.raises(HostFailure):
        await bed.host.subvolumes.snapshot(bed.disk / "plain", bed.disk / "three")
    await bed.host.files.exchange(one, two)
    assert await bed.host.files.read(one / "file") == b"then"


async def test_only_subvolumes_are_deleted(bed: Bed) -> None:
    one, plain = bed.disk / "one", bed.disk / "plain"
    await bed.host.subvolumes.create(one)
    await bed.host.files.make_directory(plain)
    assert await bed.host.subvolumes.delete(one)
    assert await bed.host.subvolumes.delete(one)
    assert not await bed.host.subvolumes.delete(plain)
    assert await bed.host.files.names(bed.disk) == ("plain",)


async def test_usage_is_counted_and_limited(bed: Bed) -> None:
    await bed.host.subvolumes.enable_quota(bed.disk)
    await bed.host.subvolumes.enable_quota(bed.disk)
    assert await bed.host.subvolumes.has_quota(bed.disk)
    await bed.host.subvolumes.create(bed.disk / "one")
    await bed.host.subvolumes.limit(bed.disk / "one", 64 << 20)
    await bed.host.files.write(bed.disk / "one/file", os.urandom(1 << 20))
    await bed.host.files.sync(bed.disk)
    assert ((await bed.host.subvolumes.usage(bed.disk / "one")) or 0) >= 1 << 20
    await bed.host.subvolumes.limit(bed.disk / "one", None)


async def test_a_full_disk_is_told(tmp_path: Path) -> None:
    host = linux_host()
    kernel.mount("tmpfs", tmp_path, "tmpfs", f"size={1 << 20}")
    try:
        (tmp_path / "filler").write_bytes(bytes(1 << 20))
        await host.files.allocate(tmp_path / "disk.img", 256 << 20)
        with pytest.raises(StorageFull):
            await host.subvolumes.format(tmp_path / "disk.img", "test")
    finally:
        await host.mounts.unmount(tmp_path)


async def test_a_formatted_disk_is_not_formatted_again(bed: Bed) -> None:
    with pytest.raises(HostFailure):
        await bed.host.subvolumes.format(bed.place / "disk.img", "again")


async def test_a_disk_is_mounted_again_and_grows(bed: Bed) -> None:
    await bed.host.files.write(bed.disk / "file", b"kept")
    await bed.host.mounts.unmount(bed.disk)
    assert await bed.host.files.names(bed.disk) == ()
    await bed.host.mounts.disk(DiskMount(bed.place / "disk.img", bed.disk, "btrfs"))
    assert await bed.host.files.read(bed.disk / "file") == b"kept"
    await bed.host.files.allocate(bed.place / "disk.img", 300 << 20)
    await bed.host.files.allocate(bed.place / "disk.img", 200 << 20)
    assert await bed.host.files.size(bed.place / "disk.img") == 300 << 20
    await bed.host.mounts.grow(bed.disk)
    await bed.host.subvolumes.fill_device(bed.disk)


async def test_a_directory_is_mounted_with_shifted_ids(bed: Bed) -> None:
    source = bed.disk / "source"
    await bed.host.files.make_directory(source, mode=0o755, owner=0)
    for number, ids in enumerate((IDS, OTHERS)):
        target = bed.place / f"target{number}"
        await bed.host.files.make_directory(target)
        await bed.host.mounts.bind(BindMount(source, target, ids))
        async with bed.host.files.root(target, idmap=ids) as root:
            await root.make_directory(f"/made{number}", uid=7, gid=8, mode=0o700)
    async with bed.host.files.root(bed.place / "target1") as seen:
        assert (await seen.stat("/made0")).uid == OTHERS.base + 7
    async with bed.host.files.root(source) as raw:
        assert ((await raw.stat("/made1")).uid, (await raw.stat("/made1")).gid) == (7, 8)


async def test_ids_of_one_range_are_mapped_to_another(bed: Bed) -> None:
    source, target = bed.disk / "source", bed.place / "target"
    await bed.host.files.make_directory(source, mode=0o755, owner=IDS.base + 5)
    await bed.host.files.make_directory(target)
    await bed.host.mounts.bind(BindMount(source, target, OTHERS, inner=IDS.base, read_only=True))
    async with bed.host.files.root(target) as seen:
        assert (await seen.stat("/")).uid == OTHERS.base + 5


async def test_a_tree_is_copied_unchanged(bed: Bed) -> None:
    source = bed.disk / "source"
    await bed.host.files.make_directory(source / "deep/er", mode=0o750, owner=IDS.base)
    await bed.host.files.write(source / "deep/er/file", b"content", mode=0o640)
    await bed.host.files.copy_tree(source, bed.place / "copy")
    async with bed.host.files.root(bed.place / "copy") as copy:
        found = await copy.stat("/deep/er")
        assert (found.uid, found.mode) == (IDS.base, 0o750)
        assert (await copy.stat("/deep/er/file")).mode == 0o640
    assert await bed.host.files.read(bed.place / "copy/deep/er/file") == b"content"
    with pytest.raises(AlreadyExists):
        await bed.host.files.copy_tree(source, bed.place / "copy")
    with pytest.raises(NotFound):
        await bed.host.files.copy_tree(bed.disk / "nothing", bed.place / "other")
    await bed.host.subvolumes.create(bed.disk / "into")
    await bed.host.files.copy_tree(source, bed.disk / "into", into=True)
    assert await bed.host.files.read(bed.disk / "into/deep/er/file") == b"content"
    with pytest.raises(NotFound):
        await bed.host.files.exchange(source, bed.disk / "nothing")
