"""Tests on a real btrfs: limits, growing disks, removal of loop devices, and foreign disks that are left alone."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from loop_devices import loops, unused_loops
from network_host import act
from waiting import until

from isola.errors import AlreadyExists, HostFailure, InvalidInput, IsolaError
from isola.host.linux import linux_host
from isola.host.mounts import DiskMount
from isola.model.storage import Pool, Volume
from isola.operations import Operation
from isola.storage import Feature
from isola.storage.drivers.btrfs import BtrfsDriver

MIB = 1 << 20


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory; afterwards no loop device may refer to it, once those have ended that had a copy of its mounts."""
    with tempfile.TemporaryDirectory(prefix="isola-btrfs-") as directory:
        os.chmod(directory, 0o711)
        yield Path(directory)
    until(lambda: not unused_loops(Path(directory)))


@pytest.fixture
async def driver(place: Path) -> AsyncIterator[BtrfsDriver]:
    """A pool in an image file."""
    made = made_in(place)
    await act(made.host, made.create_pool)
    yield made
    await act(made.host, made.delete_pool)
    assert os.listdir(place) == []


def made_in(place: Path, name: str = "p", **config: str) -> BtrfsDriver:
    return BtrfsDriver(linux_host(), Pool(name, "btrfs", config={"size": "256MiB", **config}), place / name)


async def mounted(driver: BtrfsDriver, volume: Volume, holder: str = "one") -> Path:
    found: list[Path] = []

    async def work(op: Operation) -> None:
        found.append(await driver.mount(op, volume, holder))

    await act(driver.host, work)
    return found[0]


def fill(path: Path, size: int) -> int:
    """Write until the disk is full; returns the number of bytes."""
    written = 0
    with path.open("wb") as file:
        try:
            while written < size:
                file.write(os.urandom(MIB))
                file.flush()
                os.fsync(file.fileno())
                written += MIB
        except OSError as error:
            assert error.errno == errno.EDQUOT
    return written


async def test_a_limit_is_enforced_and_can_be_raised(driver: BtrfsDriver) -> None:
    volume = Volume("c1", "p", kind="custom", size=16 * MIB)
    await act(driver.host, lambda op: driver.create_volume(op, volume))
    root = await mounted(driver, volume)
    assert 12 * MIB <= await asyncio.to_thread(fill, root / "file", 32 * MIB) <= 16 * MIB
    await act(driver.host, lambda op: driver.resize_volume(op, volume, 40 * MIB))
    assert await asyncio.to_thread(fill, root / "more", 16 * MIB) == 16 * MIB
    await driver.host.files.sync(driver.place)
    assert await driver.usage(volume) >= 28 * MIB


async def test_a_limit_is_enforced_after_a_restore_and_in_copies(driver: BtrfsDriver) -> None:
    volume = Volume("c1", "p", kind="custom", size=16 * MIB)
    copy = replace(volume, id="c2")
    await act(driver.host, lambda op: driver.create_volume(op, volume))
    await act(driver.host, lambda op: driver.create_snapshot(op, volume, "s1"))
    await act(driver.host, lambda op: driver.restore_snapshot(op, volume, "s1"))
    await act(driver.host, lambda op: driver.clone_volume(op, copy, volume))
    for each in (volume, copy):
        root = await mounted(driver, each)
        assert await asyncio.to_thread(fill, root / "file", 32 * MIB) <= 16 * MIB


async def test_a_pool_grows_while_it_is_used_and_does_not_shrink(driver: BtrfsDriver) -> None:
    before = (await driver.space()).total
    await driver.update_pool({"size": "512MiB"})
    assert (await driver.space()).total >= before + 200 * MIB
    assert (driver.directory / "disk.img").stat().st_size == 512 * MIB
    driver.pool = replace(driver.pool, config={"size": "512MiB"})
    with pytest.raises(InvalidInput, match="cannot shrink"):
        await driver.update_pool({"size": "256MiB"})


async def test_the_next_daemon_finds_all_after_a_reboot(driver: BtrfsDriver) -> None:
    volume = Volume("c1", "p", kind="custom")
    await act(driver.host, lambda op: driver.create_volume(op, volume))
    ((await mounted(driver, volume)) / "file").write_text("kept")
    for mount in await driver.host.mounts.below(driver.directory):
        await driver.host.mounts.unmount(mount)
    successor = made_in(driver.directory.parent)
    await successor.open()
    assert ((await mounted(successor, volume)) / "file").read_text() == "kept"
    assert await successor.why_not(Feature.QUOTA) == ""


async def test_subvolumes_created_inside_are_deleted_with_the_volume(driver: BtrfsDriver) -> None:
    volume = Volume("c1", "p", kind="custom")
    await act(driver.host, lambda op: driver.create_volume(op, volume))
    root = await mounted(driver, volume)
    for path in (root / "nested", root / "nested/deeper"):
        await driver.host.subvolumes.create(path)
    await act(driver.host, lambda op: driver.create_snapshot(op, volume, "s1"))
    await act(driver.host, lambda op: driver.delete_volume(op, volume))
    assert await driver.volumes("custom") == ()
    await driver.settled()
    assert os.listdir(driver.place / "partial") == []


async def test_a_missing_disk_leaves_the_pool_alone(driver: BtrfsDriver) -> None:
    await driver.host.mounts.unmount(driver.place)
    image = driver.directory / "disk.img"
    image.rename(driver.directory / "away.img")
    with pytest.raises(HostFailure, match="is missing"):
        await made_in(driver.directory.parent).open()
    assert os.listdir(driver.place) == []
    (driver.directory / "away.img").rename(image)
    await made_in(driver.directory.parent).open()


async def test_another_disk_in_its_place_is_refused(driver: BtrfsDriver, place: Path) -> None:
    other = made_in(place, "other")
    await act(other.host, other.create_pool)
    await other.host.mounts.unmount(other.place)
    await driver.host.mounts.unmount(driver.place)
    own, foreign = driver.directory / "disk.img", other.directory / "disk.img"
    own.rename(driver.directory / "own.img")
    foreign.rename(own)
    with pytest.raises(HostFailure, match="contains another file system"):
        await made_in(place).open()
    assert await driver.host.mounts.below(driver.directory) == ()
    own.rename(foreign)
    (driver.directory / "own.img").rename(own)
    await made_in(place).open()
    await act(other.host, other.delete_pool)


async def test_a_directory_of_an_existing_file_system(driver: BtrfsDriver, place: Path) -> None:
    """Another btrfs, here that of the first pool: quotas stay as they are, and only the pool's files are deleted."""
    source = driver.place / "theirs"
    source.mkdir()
    other = BtrfsDriver(driver.host, Pool("q", "btrfs", config={"source": str(source)}), place / "q")
    await act(other.host, other.create_pool)
    volume = Volume("c1", "q", kind="custom", size=16 * MIB)
    await act(other.host, lambda op: other.create_volume(op, volume))
    (source / "foreign").mkdir()
    await act(other.host, other.delete_pool)
    assert os.listdir(source) == ["foreign"]
    (source / "foreign").rmdir()
    with pytest.raises(InvalidInput, match="cannot hold subvolumes"):
        (place / "ext4").mkdir()
        plain = BtrfsDriver(driver.host, Pool("r", "btrfs", config={"source": str(place / "ext4")}), place / "r")
        await plain.check_place()
    (place / "ext4").rmdir()


async def test_a_disk_with_a_file_system_is_not_formatted(place: Path) -> None:
    driver = made_in(place)
    driver.directory.mkdir()
    image = driver.directory / "disk.img"
    await driver.host.files.allocate(image, 256 * MIB)
    await driver.host.processes.run(("mkfs.ext4", "-q", str(image)))
    before = image.read_bytes()[:4096]
    with pytest.raises(IsolaError):
        await driver.host.subvolumes.format(image, "isola-p")
    assert image.read_bytes()[:4096] == before


async def test_a_disk_that_cannot_be_mounted_keeps_no_loop_device(place: Path) -> None:
    host = linux_host()
    await host.files.allocate(place / "empty.img", 256 * MIB)
    (place / "mnt").mkdir()
    before = loops(place)
    with pytest.raises(HostFailure, match="dmesg"):
        await host.mounts.disk(DiskMount(place / "empty.img", place / "mnt", "btrfs"))
    assert loops(place) == before


async def test_a_disk_that_another_namespace_has_mounted_still_is_mounted_from_the_same_device(place: Path) -> None:
    """Anyone may have a copy of the mounts: two devices would be two file systems, which overwrite one another."""
    host = linux_host()
    image, target = place / "disk.img", place / "mnt"
    await host.files.allocate(image, 256 * MIB)
    await host.processes.run(["mkfs.btrfs", "-q", str(image)])
    target.mkdir()
    before = loops(place)
    await host.mounts.disk(DiskMount(image, target, "btrfs"))
    (used,) = loops(place) - before
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 600"]
    holder = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert holder.stdout is not None and await holder.stdout.readline()
        (target / "file").write_text("not on the disk yet")
        await host.mounts.unmount(target)
        await host.mounts.disk(DiskMount(image, target, "btrfs"))
        assert loops(place) - before == {used}
        assert (target / "file").read_text() == "not on the disk yet"
        await host.mounts.unmount(target)
    finally:
        holder.kill()
        await holder.wait()
    for _ in range(1200):
        if loops(place) == before:
            break
        await asyncio.sleep(0.05)
    assert loops(place) == before


async def test_a_killed_daemon_leaves_no_loop_device(place: Path) -> None:
    image = place / "disk.img"
    await linux_host().files.allocate(image, 256 * MIB)
    before = loops(place)
    code = (
        "import sys, time; from pathlib import Path; from isola.host import loops\n"
        f"with loops.attached(Path({str(image)!r})) as device: print(device, flush=True); time.sleep(60)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    device = (await process.stdout.readline()).decode().strip()
    assert Path(device).name in loops(place)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    for _ in range(1200):
        if loops(place) == before:
            break
        await asyncio.sleep(0.02)
    assert loops(place) == before


async def test_a_failed_creation_of_a_pool_leaves_nothing(place: Path) -> None:
    """Every step of a creation fails or is cancelled in turn."""

    class StopsAt:
        def __init__(self, number: int) -> None:
            self.left = number

        async def reached(self, operation: Operation, point: str) -> None:
            self.left -= 1
            if self.left == -1:
                raise HostFailure(f"Injected failure at {point}")

    before = loops(place)
    for number in range(20):
        driver = made_in(place)
        try:
            await act(driver.host, driver.create_pool, StopsAt(number))
        except HostFailure:
            assert os.listdir(place) == []
            until(lambda: unused_loops(place) <= before)
            continue
        break
    assert number == 2
    with pytest.raises(AlreadyExists):
        await driver.host.subvolumes.create(driver.place / "volumes")
    await act(driver.host, driver.delete_pool)


async def test_the_default_of_a_pool_is_a_part_of_it_or_a_size(place: Path) -> None:
    bare = made_in(place)
    wanted = await bare.complete({"size": "256MiB"})
    assert wanted == {"size": "256MiB", "volume.size": "80%"}
    assert (await bare.complete({"size": "256MiB", "volume.size": "1GiB"}))["volume.size"] == "1GiB"
    BtrfsDriver.settings.validate({"volume.size": "1%"})
    for wrong in ("0%", "101%", "much", "-1", "%"):
        with pytest.raises(InvalidInput):
            BtrfsDriver.settings.validate({"volume.size": wrong})
    assert await bare.default_size() is None, "a pool of an earlier version"
    driver = made_in(place, **{"volume.size": "50%"})
    await act(driver.host, driver.create_pool)
    assert await driver.default_size() == 128 * MIB
    driver.pool = replace(driver.pool, config={"volume.size": "20MiB"})
    assert await driver.default_size() == 20 * MIB
    await act(driver.host, driver.delete_pool)
