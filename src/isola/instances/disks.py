"""The root of an instance with disks of its own: files in its volume, of which the guest sees what they contain."""

from __future__ import annotations

from pathlib import Path

from isola.errors import InvalidInput, Unsupported
from isola.images.vm_layers import disk_size, type_of_layers
from isola.instances.context import Context
from isola.instances.expand import root_name, root_size
from isola.model.disk import IMAGE_DISK, ROOT_DISK, ROOT_SIZE, Disk, DiskFormat
from isola.model.image import Image
from isola.model.instance import Devices, Instance
from isola.model.isolation import VIRTUAL_MACHINE
from isola.operations import Operation
from isola.runtimes import RootKind, WithDisks

_SECTOR = 512
_NEW = ".new"
BOOT_PRIORITY, BUS = "boot.priority", "io.bus"


def has_disks(context: Context, runtime: str) -> bool:
    """Whether the root of instances of this runtime is a disk."""
    return context.runtimes.find(runtime).capabilities.root is RootKind.DISKS


def quota(context: Context, runtime: str, devices: Devices) -> int | None:
    """The limit of the root volume: that of a disk is the disk's own size, whatever its pool can limit."""
    return None if has_disks(context, runtime) else root_size(devices)


def isolation_of_image(image: Image) -> str:
    """The isolation that its disk is made for; empty if it has none."""
    return "vm" if type_of_layers(image.layers) == VIRTUAL_MACHINE else ""


def require_image(context: Context, runtime: str, isolation: str, image: Image | None) -> None:
    """Raises InvalidInput for a disk where files are needed, or the reverse."""
    disk = image is not None and type_of_layers(image.layers) == VIRTUAL_MACHINE
    if disk and not has_disks(context, runtime):
        raise InvalidInput(
            f"The image is the disk of a virtual machine, and isolation {isolation!r} needs files",
            field="isolation",
            remedy="use isolation 'vm', or an image for containers",
        )
    if image is not None and not disk and has_disks(context, runtime):
        raise InvalidInput(
            f"The image has files and no disk, and isolation {isolation!r} boots from a disk",
            field="isolation",
            remedy="use an image for virtual machines, or isolation 'microvm', which boots any image",
        )


def require_same(context: Context, instance: Instance, runtime: str) -> None:
    """Raises Unsupported if its root would have to become a disk, or the reverse."""
    if has_disks(context, instance.runtime) == has_disks(context, runtime):
        return
    what = "a disk" if has_disks(context, instance.runtime) else "files"
    other = "files" if what == "a disk" else "a disk"
    raise Unsupported(
        f"Instance {instance.name!r} cannot move to that isolation: its root consists of {what}, not of {other}",
        field="isolation",
        remedy="create an instance there from an image, and copy its data",
    )


async def require_size(context: Context, devices: Devices, image: Image) -> None:
    """Raises InvalidInput if the root disk would be smaller than that of the image."""
    least = await disk_size(context.images.store, context.host, image.layers)
    size = root_size(devices)
    if size is not None and size < least:
        raise InvalidInput(
            f"The disk of the image has {least} bytes, the root disk only {size}",
            field=f"devices.{root_name(devices)}.size",
            remedy="give it more, or no size",
        )


async def root_disk(context: Context, instance: Instance, devices: Devices, root: Path) -> Disk:
    """Its root disk in the mounted volume, made at its first start, and enlarged to the size in its configuration."""
    images, path, below = context.host.disk_images, root / ROOT_DISK, root / IMAGE_DISK
    based = await context.host.files.exists(below)
    size = _rounded(root_size(devices) or max(ROOT_SIZE, await context.host.files.size(below) if based else 0))
    if not await context.host.files.exists(path):
        new = path.with_name(path.name + _NEW)
        await context.host.files.remove_tree(new)  # of a daemon that was killed
        owner = instance.idmap.outside(0)
        await images.create(new, size, owner=owner)
        await context.host.files.rename(new, path)
    elif (await images.header(path)).size < size:
        await images.grow(path, size)
    device = devices[root_name(devices)]
    return Disk(
        root_name(devices),
        path,
        DiskFormat.QCOW2,
        below if based else None,
        boot=int(device.get(BOOT_PRIORITY) or 0),
        bus=device.get(BUS, ""),
    )


async def resize(context: Context, op: Operation, instance: Instance, before: int | None, devices: Devices) -> None:
    """Follow a change of the size: at once while it runs, else at its next start. Raises InvalidInput to shrink it."""
    size = root_size(devices)
    if size is None or size == before:
        return
    async with context.storage(instance).visit(context.volume(instance)) as root:
        now = await _size_now(context, root)
    if size < now:
        raise InvalidInput(
            f"The root disk of {instance.name!r} has {now} bytes and cannot shrink",
            evidence=f"to {size} bytes: the file systems on it would be cut off",
            field=f"devices.{root_name(devices)}.size",
            remedy="make a new instance with a smaller disk, and copy what it needs",
        )
    live = context.live.get(instance.id)
    if live is not None and size > now and isinstance(live.guest, WithDisks):
        guest: WithDisks = live.guest
        # There is no way back: a larger disk stays if a later step fails, and is used at the next start.
        await op.effect("resize root disk", lambda: guest.resize_disk(root_name(devices), _rounded(size)))


async def _size_now(context: Context, root: Path) -> int:
    for name in (ROOT_DISK, IMAGE_DISK):
        if await context.host.files.exists(root / name):
            return (await context.host.disk_images.header(root / name)).size
    return 0


def _rounded(size: int) -> int:
    return -(-size // _SECTOR) * _SECTOR
