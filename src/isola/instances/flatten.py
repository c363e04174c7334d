"""An image of the disk of an instance: what it wrote and what is below it in its image become one disk."""

from __future__ import annotations

from pathlib import Path

from isola.errors import InvalidInput
from isola.host.cancellation import finish
from isola.images.architecture import debian_architecture
from isola.images.metadata import Metadata
from isola.images.store import Intake
from isola.images.vm_image import vm_image
from isola.instances.context import Context
from isola.model.disk import IMAGE_DISK, ROOT_DISK, DiskFormat
from isola.model.image import Image
from isola.model.instance import Instance
from isola.operations import Operation


async def flatten(context: Context, op: Operation, intake: Intake, origin: Instance, tree: Path) -> Image:
    """``tree``: its volume, in which nothing changes meanwhile. Raises InvalidInput, TooLarge, UnsafeArchive."""
    files, store = context.host.files, context.images.store
    top, below = tree / ROOT_DISK, tree / IMAGE_DISK
    started, based = await files.exists(top), await files.exists(below)
    if not (started or based):
        raise InvalidInput(f"Instance {origin.name!r} has never been started and has no disk yet", remedy="start it")
    scratch = store.scratch / f"disk-{context.host.clock.token(8)}"
    await op.effect(
        "create a directory for the disk",
        lambda: files.make_directory(scratch, mode=0o700),
        undo=lambda: files.remove_tree(scratch),
    )
    try:
        return await vm_image(
            op,
            context.host,
            intake,
            disk=top if started else below,
            format=DiskFormat.QCOW2 if started else DiskFormat.RAW,
            below=below if started and based else None,
            metadata=_metadata(context, origin),
            made_by="publishing of an instance",
            source={"instance": origin.name},
            limits=context.images.disk_limits,
            scratch=scratch,
            as_it_is=False,
        )
    finally:
        await finish(files.remove_tree(scratch))


def _metadata(context: Context, origin: Instance) -> Metadata:
    known = {"architecture": debian_architecture(origin.architecture), "description": f"Disk of {origin.name}"}
    return Metadata(origin.architecture, context.host.clock.now(), None, {**known, **origin.image_properties})
