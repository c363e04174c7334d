"""The end of an ephemeral instance: its record is removed as soon as nothing of it runs, its files after that."""

from __future__ import annotations

from dataclasses import replace

from isola.instances import attaching
from isola.instances.clean_up import end_run, forget_run, take_devices
from isola.instances.context import Context, HalfMade
from isola.instances.files import end_sessions
from isola.instances.half_made import intent_of, remove_soon
from isola.instances.identity import plugs_of
from isola.instances.last_run import last_status
from isola.instances.moving import moves_of
from isola.instances.own_volumes import remove_own_volumes
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation


def may_vanish(context: Context, instance: Instance) -> bool:
    """Whether nothing but its run, its volume and its logs is left to be removed."""
    return (
        instance.ephemeral
        and not instance.deleting
        and not instance.changing
        and instance.id not in context.faults
        and not moves_of(context, instance.id)
        and not any(each.instance.id == instance.id for each in context.snapshots)
    )


async def vanish(context: Context, op: Operation, instance: Instance) -> None:
    """Remove an instance that has ended.

    Its name, addresses and networks are free when this returns, and those who wait for its removal are notified. An
    intent stands for its volume and its logs until they are removed in the background.
    """
    await end_sessions(context, instance)
    await end_run(context, op, instance)
    await take_devices(context, op, instance)
    await context.devices.unregister(op, plugs_of(context, instance))
    status = last_status(context, instance)
    try:
        await op.commit(lambda: _record_gone(context, instance))
    finally:
        if context.by_id(instance.id) is None:  # notified last, so that its name is not locked then
            context.waits.removed(instance.id, status)


async def _record_gone(context: Context, instance: Instance) -> None:
    pool, plugs = context.pool_name(instance), plugs_of(context, instance)
    left = HalfMade(
        instance.id, Ref(instance.project, ""), pool, _unused_layers(context, instance), bases=(instance.idmap.base,)
    )
    intent = intent_of(left)
    await context.warnings.forget(instance.entity)
    await context.records.remove(instance.ref, also=[context.intents.beginning(intent)])
    context.intents.begun(intent)
    # An image that was deleted meanwhile has left its layers to this instance, which had a record.
    remove_soon(context, replace(left, layers=_unused_layers(context, instance)))
    context.devices.forget(plugs)
    forget_run(context, instance.id)
    attaching.give_up(context, instance.id)
    context.health.pop(instance.id, None)
    await remove_own_volumes(context, instance)


def _unused_layers(context: Context, instance: Instance) -> tuple[str, ...]:
    """Layers that may have no other user: none while its image is there."""
    return () if context.images.holds(instance.image) else instance.start.layers
