"""What the root of an instance has changed of its image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from isola.instances.commit import MOUNT_POINTS, ensure_layers
from isola.instances.context import Context
from isola.instances.phases import require_kept
from isola.model.caller import Caller
from isola.model.file_change import ChangeKind, FileChange
from isola.model.reference import Ref
from isola.operations import Operation


async def changes(context: Context, ref: Ref, caller: Caller) -> Sequence[FileChange]:
    """It may run meanwhile. Without the mount points that every instance has. Raises NotFound, TooLarge, WrongState."""
    return without_mount_points(await whole(context, ref, caller))


def without_mount_points(found: Sequence[FileChange]) -> Sequence[FileChange]:
    """Nor the directories that differ because of them. Pure."""
    left_out = {f"/{path}" for path in MOUNT_POINTS}
    kept = [each for each in found if each.path not in left_out or each.kind is ChangeKind.DELETED]
    above = {str(PurePosixPath(path).parent) for path in left_out & {each.path for each in found}}
    above -= {str(parent) for each in kept for parent in PurePosixPath(each.path).parents}
    return [each for each in kept if each.path not in above or each.kind is not ChangeKind.MODIFIED]


async def whole(context: Context, ref: Ref, caller: Caller) -> Sequence[FileChange]:
    """The same with these mount points."""
    instance = context.records.get(ref)
    require_kept(instance)
    driver, scratch = context.storage(instance), context.images.store.scratch
    with context.layers.reserved(f"changes-{context.host.clock.token(8)}", instance.start):

        async def prepare(op: Operation) -> None:
            await ensure_layers(context, op, instance)

        if set(driver.layers.ids(instance.start.layers)) - set(await driver.layers.stored()):
            operation = context.operations.start("Unpacking image layers", prepare, project=ref.project, caller=caller)
            await context.operations.finish(operation)
        list_file = scratch / f"changes-{context.host.clock.token(8)}"
        return await driver.list_changes(context.volume(instance), list_file)
