"""Completes a restore that was interrupted by a kill of the daemon: the record names the snapshot."""

from __future__ import annotations

import dataclasses

from isola.instances.context import Context
from isola.instances.snapshot_states import adopt_state
from isola.instances.volatile import GENERATION, RESTORING, RESTORING_MEMORY
from isola.model.instance import Instance
from isola.model.reference import Ref


def marked(instance: Instance, snapshot: str, *, memory: bool = False, generation: str = "") -> Instance:
    """The record with the id of the snapshot that is being restored; an empty id: the restore is complete.

    ``memory``: its next start is to continue from it. ``generation``: its new one, if there is one.
    """
    volatile = {key: value for key, value in instance.volatile.items() if key not in (RESTORING, RESTORING_MEMORY)}
    if generation:
        volatile[GENERATION] = generation
    marks = ({RESTORING: snapshot} if snapshot else {}) | ({RESTORING_MEMORY: snapshot} if snapshot and memory else {})
    return dataclasses.replace(instance, volatile=volatile | marks)


async def finish_restoring(context: Context, ref: Ref) -> None:
    """Complete it for a stopped instance whose root is not mounted. Can be repeated; no effect if there is none."""
    instance = context.records.get(ref)
    if not (snapshot := instance.volatile.get(RESTORING)):
        return
    driver, volume = context.storage(instance), context.volume(instance)
    if instance.id not in context.restored and snapshot in await driver.snapshots(volume):
        await driver.apply_restore(volume, snapshot)
        context.restored.add(instance.id)
    if instance.volatile.get(RESTORING_MEMORY) and any(each.id == snapshot for each in context.snapshots):
        await adopt_state(context, instance, snapshot)
    await context.records.change(ref, lambda found: marked(found, ""))
    context.restored.discard(instance.id)
