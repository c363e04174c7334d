"""What instances had in memory when stateful snapshots of them were taken: files that never change, by snapshot.

They are complete before the record of the snapshot says that it is ready, and are removed before that record.
"""

from __future__ import annotations

from pathlib import Path

from isola.errors import WrongState
from isola.instances.context import Context
from isola.instances.saved import Place, place_of
from isola.model.instance import Instance
from isola.model.snapshot import InstanceSnapshot
from isola.operations import Operation
from isola.runtimes.guest import Standing

PLACE = "snapshot-states"
"""Directory in that of the daemon. Memory contains secrets: only root can enter it."""


def require_state(instance: Instance, snapshot: InstanceSnapshot) -> None:
    """Raises WrongState if the instance cannot continue from it."""
    if not snapshot.stateful:
        raise WrongState(
            f"Snapshot {snapshot.name!r} has no saved memory",
            remedy="restore it without stateful, or take one with stateful",
        )
    then = snapshot.instance.runtime
    if then != instance.runtime:
        raise WrongState(
            f"The memory in snapshot {snapshot.name!r} was saved by runtime {then!r}",
            remedy=f"restore it without stateful, or move the instance back to {then}",
        )


async def keep_memory(context: Context, op: Operation, snapshot: InstanceSnapshot, guest: Standing) -> None:
    """That of a guest which stands still, and goes on afterwards."""
    place = await _make(context, op, snapshot)
    await op.effect(f"save memory in snapshot {snapshot.name}", lambda: guest.save(place))


async def keep_saved(context: Context, op: Operation, snapshot: InstanceSnapshot) -> None:
    """A copy of the state with which it was stopped."""
    place, source = await _make(context, op, snapshot), place_of(context, snapshot.instance.id).images
    await op.effect(f"copy memory to snapshot {snapshot.name}", lambda: _copy(context, source, place))


async def prepare_state(context: Context, op: Operation, instance: Instance, snapshot: str) -> None:
    """Copy that of a snapshot to where the instance finds its own, without its marker."""
    place = place_of(context, instance.id)
    await op.effect(
        f"copy memory for {instance.name}", lambda: _bring(context, place, snapshot), undo=lambda: place.drop(context)
    )


async def adopt_state(context: Context, instance: Instance, snapshot: str, *, prepared: bool = False) -> None:
    """From now on its next start continues from it. Can be repeated until it starts.

    ``prepared``: by the same operation.
    """
    place = place_of(context, instance.id)
    if instance.id in context.saved:
        return
    if not prepared:
        await _bring(context, place, snapshot)
    await place.mark(context)
    context.saved.add(instance.id)


async def remove_state(context: Context, snapshot: InstanceSnapshot) -> None:
    """No effect if there is none."""
    if snapshot.stateful:
        place = _place(context, snapshot.id)
        await context.host.files.remove_tree(place, flush=(place.parent,))


def _place(context: Context, snapshot: str) -> Path:
    return context.directory / PLACE / snapshot


async def _make(context: Context, op: Operation, snapshot: InstanceSnapshot) -> Path:
    files, place = context.host.files, _place(context, snapshot.id)

    async def make() -> None:
        await files.make_directory(place.parent, place, mode=0o700)
        await files.flush(place.parent, context.directory)

    await op.effect(f"make room for snapshot {snapshot.name}", make, undo=lambda: files.remove_tree(place))
    return place


async def _bring(context: Context, place: Place, snapshot: str) -> None:
    instance = next(each.instance for each in context.snapshots if each.id == snapshot)
    await place.make(context, instance.runtime)
    await _copy(context, _place(context, snapshot), place.images)


async def _copy(context: Context, source: Path, target: Path) -> None:
    files = context.host.files
    names = await files.names(source)
    for name in names:
        await files.duplicate(source / name, target / name)
    await files.flush(*(target / name for name in names), target)
