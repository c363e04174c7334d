"""The layer of an image for virtual machines: its disk in a qcow2 file, unpacked to a raw one with holes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from isola.host import Host
from isola.host.archive.archives import UnpackReport
from isola.host.disk_images import DiskLimits
from isola.images.descriptor import DISK_TYPE, Descriptor
from isola.images.store import ContentStore
from isola.model.disk import IMAGE_DISK, DiskFormat
from isola.model.image import TYPE_LABEL, ImageConfig, Layer
from isola.model.isolation import CONTAINER, VIRTUAL_MACHINE

MACHINE = ImageConfig(system=True, stop_signal="SIGPWR", labels={TYPE_LABEL: "vm"})
"""How such images are run: their firmware decides what starts."""


def type_of_layers(layers: Sequence[Layer]) -> str:
    """What LXD's clients call images with such layers."""
    return VIRTUAL_MACHINE if any(layer.media_type == DISK_TYPE for layer in layers) else CONTAINER


def disk_layer(stored: Descriptor) -> Layer:
    """The layer of a qcow2 file in the store."""
    return Layer(stored.digest, DISK_TYPE, stored.size, stored.digest)


async def disk_size(store: ContentStore, host: Host, layers: Sequence[Layer]) -> int:
    """Bytes of the disk of an image with these layers; 0 if it has none. Raises NotFound."""
    for layer in layers:
        if layer.media_type == DISK_TYPE:
            return (await host.disk_images.header(store.path(layer.digest))).size
    return 0


async def unpack_disk(
    host: Host, source: Path, target: Path, limits: DiskLimits, progress: Callable[[int], None] | None = None
) -> UnpackReport:
    """Into an empty directory. Raises UnsafeArchive, InvalidInput, TooLarge, Unsupported."""
    disk = target / IMAGE_DISK
    found = await host.disk_images.convert(
        source, disk, format=DiskFormat.QCOW2, to=DiskFormat.RAW, limits=limits, progress=progress
    )
    return UnpackReport(1, found.used)
