"""Records of snapshots of instances."""

from __future__ import annotations

from collections.abc import Iterable

from isola.errors import NotFound
from isola.instances.context import Context
from isola.instances.snapshot_states import remove_state
from isola.model.instance import Instance
from isola.model.snapshot import InstanceSnapshot, snapshot_key


def snapshots_of(context: Context, instance: Instance) -> list[InstanceSnapshot]:
    """Complete snapshots, oldest first."""
    return in_order(each for each in context.snapshots if each.instance.id == instance.id and each.ready)


def in_order(snapshots: Iterable[InstanceSnapshot]) -> list[InstanceSnapshot]:
    return sorted(snapshots, key=lambda each: (each.created_at, each.name))


def find(context: Context, instance: Instance, name: str) -> InstanceSnapshot:
    """Raises NotFound."""
    found = context.snapshots.find(snapshot_key(instance.id, name))
    if found is None or not found.ready:
        raise NotFound(f"Instance {instance.name!r} has no snapshot {name[:80]!r}")
    return found


async def forget(context: Context, id: str) -> None:
    """Remove the records of all snapshots of an instance, after its volume was removed."""
    for snapshot in [each for each in context.snapshots if each.instance.id == id]:
        await remove_state(context, snapshot)
        await context.snapshots.remove(snapshot.key)
