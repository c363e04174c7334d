"""What a verb could not undo marks its instance, and the next verb begins by making it whole."""

from __future__ import annotations

from collections.abc import Sequence

from isola.devices import Plug
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
    """If what ``op`` does to this instance cannot be undone, remember that, and which devices it may have got."""

    op.if_undo_fails(lambda why: context.fail(id, why, *plugs))


async def _adopted(context: Context, instance: Instance) -> bool:
    """Whether it runs after all as its record says: a daemon that could not look at first looks again."""
    runtime = context.runtime(instance)
    if instance.desired is not Desired.RUNNING or (guest := await runtime.find(instance.id)) is None:
        return False
    config, _ = expanded(context, instance)
    adopt(context, instance, guest, limits(context, config, of=instance), frozen=guest.frozen())
    return True


async def mend(context: Context, op: Operation, ref: Ref) -> None:
    """Bring a marked instance to what its record says. Can be repeated; fine when there is nothing to do."""
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
