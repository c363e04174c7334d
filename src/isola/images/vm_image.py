"""Makes an image for virtual machines of a disk: a qcow2 file with metadata, as LXD's split images are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from isola.host import Host
from isola.host.disk_images import DiskLimits
from isola.images.assemble import Ingredients, assemble
from isola.images.manifest import Part
from isola.images.metadata import Metadata, metadata_tarball
from isola.images.store import Intake
from isola.images.templates import templates_of
from isola.images.vm_layers import MACHINE, disk_layer
from isola.model.disk import DiskFormat
from isola.model.image import Image
from isola.operations import Operation

_NONE: Mapping[str, str] = {}
_LIMITS = DiskLimits()


async def vm_image(
    op: Operation,
    host: Host,
    intake: Intake,
    *,
    disk: Path,
    metadata: Metadata,
    templates: Mapping[str, str] = _NONE,
    made_by: str,
    source: Mapping[str, str],
    format: DiskFormat = DiskFormat.RAW,
    below: Path | None = None,
    limits: DiskLimits = _LIMITS,
    scratch: Path | None = None,
    filename: str = "",
    as_it_is: bool = True,
) -> Image:
    """Compress ``disk``, write the metadata with its ``templates``, store both.

    ``below``: see ``DiskImages.convert``. Temporary files are beside the disk, or in ``scratch``, whose removal is up
    to the caller. A qcow2 file without anything below is stored as it is, after a check, if ``as_it_is``.
    Raises InvalidInput, UnsafeArchive, TooLarge, Unsupported.
    """
    place = scratch or disk.parent
    described = place / "metadata.tar.gz"
    files = {f"templates/{name}": text for name, text in templates.items()}
    await host.files.write(described, metadata_tarball(metadata, files))
    packed = disk
    if format is DiskFormat.QCOW2 and below is None and as_it_is:
        await check_disk(op, host, disk, limits)
    else:
        packed = place / "disk.qcow2"
        await _pack(op, host, disk, packed, format=format, below=below, limits=limits)
    fingerprint, _ = await host.files.digest(described, packed)
    first = await op.effect("store metadata", lambda: intake.put_file(described, consume=True))
    stored = await op.effect("store disk", lambda: intake.put_file(packed, consume=packed != disk))
    ingredients = Ingredients(
        fingerprint=fingerprint,
        metadata=metadata,
        config=replace(MACHINE),
        layers=[disk_layer(stored)],
        parts=[
            Part("metadata", "metadata.tar.gz", first.digest, first.size),
            Part("rootfs", "rootfs.qcow2", stored.digest, stored.size),
        ],
        made_by=made_by,
        source=source,
        filename=filename,
        templates=templates_of(metadata, templates),
    )
    return await op.effect("describe image", lambda: assemble(intake, ingredients, host.clock.now()))


async def _pack(
    op: Operation, host: Host, disk: Path, packed: Path, *, format: DiskFormat, below: Path | None, limits: DiskLimits
) -> None:
    size = sum([await host.files.size(each) for each in (disk, below) if each is not None])
    with op.step("Compress disk", total=size, unit="bytes") as step:
        await host.disk_images.convert(
            disk, packed, format=format, to=DiskFormat.QCOW2, below=below, limits=limits, progress=step.advance
        )
        step.reach(size)


async def check_disk(op: Operation, host: Host, disk: Path, limits: DiskLimits) -> None:
    """A qcow2 file that is going to be stored. Raises InvalidInput, UnsafeArchive, TooLarge, Unsupported."""
    with op.step("Check disk"):
        await host.disk_images.look(disk, DiskFormat.QCOW2, limits)
