"""If a verb cannot be undone, its instance is marked, and the next verb repairs it first."""

from __future__ import annotations

from collections.abc import Sequence

from isola.devices import Plug
from isola.instances import health
from isola.instances.clean_up import clean_up
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.placement import limits
from isola.instances.repair import half_changed, repair
from isola.instances.restoring import finish_restoring
from isola.instances.supervise import adopt
from isola.model.instance import Desired, Instance
from isola.model.reference import Ref
from isola.operations import Operation


def marks(context: Context, op: Operation, id: str, plugs: Sequence[Plug] = ()) -> None:
    """Mark the instance if the rollback of ``op`` fails, with devices that it may have on the host."""

    op.if_undo_fails(lambda why: context.fail(id, why, *plugs))


async def _adopted(context: Context, instance: Instance) -> bool:
    """Whether it runs as its record says: tried again if the daemon could not inspect it before."""
    runtime = context.runtime(instance)
    if instance.desired is not Desired.RUNNING or (guest := await runtime.find(instance.id)) is None:
        return False
    config, _ = expanded(context, instance)
    live = adopt(context, instance, guest, limits(context, config, instance), frozen=guest.frozen())
    await health.recall(context, instance, live)
    return True


async def repair_fault(context: Context, op: Operation, ref: Ref) -> None:
    """Restore the recorded state of a marked instance. Can be repeated; no effect if it is not marked."""
    instance = context.records.get(ref)
    if (fault := context.faults.get(instance.id)) is None:
        return
    try:
        adopted = instance.id not in context.live and await _adopted(context, instance)
        if instance.id not in context.live:
            await clean_up(context, op, instance)
            await finish_restoring(context, ref)
        if not adopted or half_changed(context, instance):
            await repair(context, op, ref, fault.strays)
    except BaseException:
        context.fail(instance.id, fault.why, *(fault.strays if instance.id not in context.faults else ()))
        raise
    context.heal(instance.id)
    op.reopen()
