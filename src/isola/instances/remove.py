"""Remove a stopped instance from the host."""

from __future__ import annotations

from isola.instances import attaching
from isola.instances.context import Context
from isola.instances.describe import forget_volume
from isola.instances.files import end_sessions
from isola.instances.identity import plugs_of
from isola.instances.last_run import last_status
from isola.instances.moving import finish_moves_of
from isola.instances.own_volumes import remove_own_volumes
from isola.instances.ranges import give_back
from isola.instances.saved import discard
from isola.instances.snapshot_records import forget as forget_snapshots
from isola.model.instance import Desired, Instance
from isola.operations import Operation
from isola.runtimes import RUNS


async def remove(context: Context, op: Operation, instance: Instance, *, clean: bool = False) -> None:
    """Remove a stopped instance. The first write is the point of no return; the rest can be repeated at any time.

    ``clean``: the caller has just removed the remains of its run.
    """
    await end_sessions(context, instance)
    await op.commit(lambda: context.records.change(instance.ref, doom, pure=True))
    await sweep(context, op, context.records.get(instance.ref), clean=clean)
    context.heal(instance.id)
    context.tell("deleted", instance.ref, caller=op.caller)


def doom(instance: Instance) -> Instance:
    """The record of an instance whose deletion has begun."""
    return instance.wanted(Desired.DELETED)


async def sweep(context: Context, op: Operation, instance: Instance, *, clean: bool = False) -> None:
    """Remove all objects of an instance from the host, and finally its record."""
    if not clean:
        runtime = context.runtime(instance)
        await op.effect(f"remove processes of {instance.name}", lambda: runtime.remove(instance.id))
        await op.effect(
            f"remove network namespace of {instance.name}", lambda: context.networks.namespaces.remove(instance.id)
        )
    strays = context.strays(instance.id)
    changing = context.devices.plugs(instance, instance.changing)
    plugs = (*plugs_of(context, instance), *changing, *strays)
    if not clean or strays or changing:
        await context.devices.detach(op, plugs)
    await context.devices.unregister(op, plugs)
    context.devices.forget(plugs)
    await context.devices.forget_run(instance.id)
    await forget_volume(context, op, context.volume(instance))
    await finish_moves_of(context, op, instance.id)
    await op.effect(f"forget snapshots of {instance.name}", lambda: forget_snapshots(context, instance.id))
    await op.effect(f"remove state of {instance.name}", lambda: discard(context, instance.id))
    await op.effect(f"remove logs of {instance.name}", lambda: remove_logs(context, instance.id))
    base = instance.idmap.base
    await op.effect(f"give back user ids of {instance.name}", lambda: give_back(context, instance.id, base))
    if not context.images.holds(instance.image):  # before the record is removed, so that it can be repeated
        await context.layers.drop_unused(instance.start.layers, but=instance.entity)
    await op.effect(f"forget {instance.name}", lambda: _forget(context, instance))
    await remove_own_volumes(context, instance)
    if not context.images.holds(instance.image):
        # The image, or another instance of it, may have been deleted meanwhile, and left the layers to this one.
        await context.layers.drop_unused(instance.start.layers)
        await context.images.collect_garbage()


async def _forget(context: Context, instance: Instance) -> None:
    await context.warnings.forget(instance.entity)
    await context.records.remove(instance.ref)
    attaching.give_up(context, instance.id)
    context.health.pop(instance.id, None)
    context.waits.removed(instance.id, last_status(context, instance))


async def remove_logs(context: Context, id: str) -> None:
    """Also syncs earlier removals, because after a power failure there is no record by which to repeat them."""
    logs = context.directory / "logs"
    await context.host.files.remove_tree(logs / id, flush=(logs, context.directory / RUNS))
