"""Volumes that contain a disk or a disc instead of files: one raw file in an ordinary volume."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from isola.errors import InvalidInput
from isola.host import Host
from isola.host.cancellation import finish
from isola.model.disk import VOLUME_DISK
from isola.model.volume import BLOCK, FILESYSTEM, ISO, VolumeRecord, size_of
from isola.operations import Operation
from isola.storage.volume_mounts import OPTIONS, SOURCE
from isola.storage.volume_records import VolumeContext

CONTENTS = (FILESYSTEM, BLOCK, ISO)
_SIZE = 10 << 30
_LARGEST = 1 << 50
Grown = Callable[[str, int], Awaitable[None]]
"""Called with a holder whose disk has this size now."""
_SECTOR = 512


async def configuration(host: Host, content: str, config: Mapping[str, str], disc: Path | None) -> dict[str, str]:
    """That of a new volume: a disk has a size. Raises InvalidInput."""
    if content not in CONTENTS:
        raise InvalidInput(
            f"There is no content type {content[:40]!r}", field="content_type", remedy=f"use {', '.join(CONTENTS)}"
        )
    if content == FILESYSTEM:
        return dict(config)
    for key in (SOURCE, OPTIONS):
        if config.get(key):
            raise InvalidInput(f"A volume with a disk has no key {key!r}", field=f"config.{key}", remedy="leave it out")
    if content == BLOCK:
        return _sized(dict(config))
    if disc is None:
        raise InvalidInput(
            "A volume of content type iso is made of a file", field="content_type", remedy="import an ISO file"
        )
    if not (await host.disk_images.header(disc)).disc:
        raise InvalidInput("The file is not an ISO image", field="body", remedy="send a file that ends in .iso")
    return dict(config)


def _sized(config: dict[str, str]) -> dict[str, str]:
    config["size"] = config.get("size") or "10GiB"
    try:
        size = size_of(config) or 0
    except ValueError:
        return config  # the table of keys says what is wrong
    if size % _SECTOR or size > _LARGEST:
        raise InvalidInput(
            f"A disk cannot have {size} bytes", field="config.size", remedy=f"use a multiple of {_SECTOR} bytes"
        )
    return config


async def untold(holder: str, size: int) -> None:
    """Where no guests have disks."""


@asynccontextmanager
async def consumed(host: Host, disc: Path | None) -> AsyncIterator[None]:
    """Remove the directory of an uploaded disc at the end."""
    try:
        yield
    finally:
        if disc is not None:
            await finish(host.files.remove_tree(disc.parent))


async def fill(context: VolumeContext, op: Operation, record: VolumeRecord, disc: Path | None) -> None:
    """Make the file of a new volume; an undo removes the volume."""
    if record.content_type == FILESYSTEM:
        return
    async with context.driver(record).visit(record.volume()) as place:
        if disc is not None:
            with op.step("Copy disc"):
                await context.host.files.duplicate(disc, place / VOLUME_DISK)
        else:
            await context.host.files.allocate(place / VOLUME_DISK, size_of(record.config) or _SIZE)
        await context.host.files.flush(place / VOLUME_DISK, place)


def check_change(record: VolumeRecord, wanted: VolumeRecord) -> None:
    """Raises InvalidInput for a smaller disk, and for a disc of another size."""
    if record.content_type == FILESYSTEM:
        return
    old, new = size_of(record.config) or 0, size_of(wanted.config) or 0
    if record.content_type == ISO and new != old:
        raise InvalidInput("A disc has the size of its file", field="config.size", remedy="leave it as it is")
    if new < old:
        raise InvalidInput(
            "A disk cannot shrink",
            evidence=f"from {old} to {new} bytes: the file systems on it would be cut off",
            field="config.size",
            remedy="make a smaller volume, and copy what is needed",
        )


async def grow(context: VolumeContext, op: Operation, record: VolumeRecord, wanted: VolumeRecord, grown: Grown) -> None:
    """Enlarge its file, and tell guests that have it; one that is larger than recorded does no harm."""
    check_change(record, wanted)
    if record.content_type != BLOCK or size_of(wanted.config) == size_of(record.config):
        return
    async with context.driver(record).visit(record.volume()) as place:
        size = size_of(wanted.config) or _SIZE
        await op.effect("enlarge disk", lambda: context.host.files.allocate(place / VOLUME_DISK, size))
    for holder in record.attachments:
        with op.step("Tell the guest"):
            await grown(holder, size)
