"""Disks of virtual machines in real pools: layers, what is written above them, snapshots, copies, whole images."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from storage_subject import BASE, IDS, Subject

from isola.host.disk_images import DiskLimits
from isola.images.vm_layers import unpack_disk
from isola.model.disk import IMAGE_DISK, ROOT_DISK, DiskFormat
from isola.model.identity import IdRange
from isola.model.storage import Volume
from isola.testing.disk_images import FakeDiskImages

MIB = 1 << 20
OTHER = IdRange(800_000)
BELOW, WRITTEN, LATER = 0x11, 0x22, 0x33


async def test_what_a_machine_writes_is_kept_above_the_disk_of_its_image(pool: Subject) -> None:
    if isinstance(pool.host.disk_images, FakeDiskImages):
        return
    images, driver, work = pool.host.disk_images, pool.driver, pool.directory.parent
    (work / "image.raw").write_bytes(bytes([BELOW]) * MIB + bytes(7 * MIB))
    await images.convert(work / "image.raw", work / "image", format=DiskFormat.RAW, to=DiskFormat.QCOW2)

    async def unpack(layer: str, target: Path) -> None:
        await unpack_disk(pool.host, work / "image", target, DiskLimits())

    await pool.ensure(unpack, BASE)
    volume = Volume("v1", "p", layers=(BASE,), idmap=IDS)
    await pool.do(lambda op: driver.create_volume(op, volume))
    root = await pool.mount(volume)
    assert (root / IMAGE_DISK).stat().st_blocks * 512 < 4 * MIB, "it keeps its holes"
    await images.create(root / ROOT_DISK, 8 * MIB, owner=IDS.outside(0))
    await write(root, WRITTEN, at=MIB)
    await pool.do(lambda op: driver.create_snapshot(op, volume, "s1"))
    await write(root, LATER, at=2 * MIB)

    copy = Volume("v2", "p", layers=(BASE,), idmap=OTHER)
    await pool.do(lambda op: driver.clone_volume(op, copy, volume, "s1"))
    second = await pool.mount(copy)
    assert {(second / name).stat().st_uid for name in (IMAGE_DISK, ROOT_DISK)} == {OTHER.outside(0)}
    await images.grow(second / ROOT_DISK, 16 * MIB)
    assert await whole(pool, second) == bytes([BELOW]) * MIB + bytes([WRITTEN]) * MIB + bytes(14 * MIB)
    async with driver.contents(volume, "s1") as tree:
        assert await whole(pool, tree) == bytes([BELOW]) * MIB + bytes([WRITTEN]) * MIB + bytes(6 * MIB)
    async with driver.contents(volume) as tree:
        assert (await whole(pool, tree))[2 * MIB : 3 * MIB] == bytes([LATER]) * MIB
    await pool.unmount(volume)
    await pool.do(lambda op: driver.restore_snapshot(op, volume, "s1"))
    assert (await whole(pool, await pool.mount(volume)))[2 * MIB : 3 * MIB] == bytes(MIB)
    for each in (volume, copy):
        await pool.unmount(each)


async def whole(pool: Subject, tree: Path) -> bytes:
    """What the machine sees, by way of an image of it."""
    images, work = pool.host.disk_images, pool.directory.parent
    for name in ("flat", "flat.raw"):
        (work / name).unlink(missing_ok=True)
    qcow2 = DiskFormat.QCOW2
    await images.convert(tree / ROOT_DISK, work / "flat", format=qcow2, to=qcow2, below=tree / IMAGE_DISK)
    await images.convert(work / "flat", work / "flat.raw", format=qcow2, to=DiskFormat.RAW)
    return (work / "flat.raw").read_bytes()


async def write(root: Path, pattern: int, *, at: int) -> None:
    """A MiB, as a hypervisor writes it: the chain is given, and no header names it."""
    chain = {"driver": "qcow2", "file": {"driver": "file", "filename": str(root / ROOT_DISK)}}
    below = {"driver": "raw", "file": {"driver": "file", "filename": str(root / IMAGE_DISK)}}
    node = f"json:{json.dumps(chain | {'backing': below})}"
    program = await asyncio.create_subprocess_exec(
        "qemu-io", "-c", f"write -P {pattern} {at} 1M", node, stdout=asyncio.subprocess.DEVNULL
    )
    assert await program.wait() == 0
