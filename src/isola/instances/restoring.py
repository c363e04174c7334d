"""A restore that a daemon was killed at is finished by the next one: the record says which snapshot is wanted."""

from __future__ import annotations

import dataclasses

from isola.instances.context import Context
from isola.instances.volatile import RESTORING
from isola.model.instance import Instance
from isola.model.reference import Ref


def marked(instance: Instance, snapshot: str) -> Instance:
    """The record that says which snapshot, by its id, its root is about to become; with none, that it is done."""
    volatile = {key: value for key, value in instance.volatile.items() if key != RESTORING}
    return dataclasses.replace(instance, volatile=volatile | ({RESTORING: snapshot} if snapshot else {}))


async def finish_restoring(context: Context, ref: Ref) -> None:
    """Of a stopped instance whose root is mounted nowhere. Can be repeated; fine when there is nothing to do."""
    instance = context.records.get(ref)
    if not (snapshot := instance.volatile.get(RESTORING)):
        return
    driver, volume = context.storage(instance), context.volume(instance)
    if instance.id not in context.restored and snapshot in await driver.snapshots(volume):
        await driver.apply_restore(volume, snapshot)
        context.restored.add(instance.id)
    await context.records.change(ref, lambda found: marked(found, ""))
    context.restored.discard(instance.id)
