"""After an instance has ended by itself: clean up, then restart or remove it."""

from __future__ import annotations

from isola.instances.clean_up import clean_up
from isola.instances.configuration import expanded
from isola.instances.context import Context, Live, Restart
from isola.instances.last_run import about_end, after
from isola.instances.reboots import REBOOT, reboots_after
from isola.instances.remove import remove
from isola.instances.restart_policy import policy_of, restarts_of
from isola.instances.restarts import rebooted, schedule
from isola.instances.vanish import may_vanish, vanish
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation


async def after_end(context: Context, op: Operation, ref: Ref, live: Live) -> None:
    """No effect if another operation has handled the end meanwhile."""
    instance = context.records.get(ref)
    fault = context.faults.get(instance.id)
    if context.live.get(instance.id) is not live and (fault is None or fault.ended is not live):
        return
    status = live.ending.status if live.ending is not None else 0
    if status == REBOOT and instance.start.system:
        await rebooted(context, op, instance, reboots_after(context, live))
        return
    if _wants_more(context, instance, live, status):
        await rebooted(context, op, instance, reboots_after(context, live, policy=True), policy=True)
        return
    about = about_end(instance if live.ending is None else after(instance, live.ending))
    if not live.again and may_vanish(context, instance):
        await vanish(context, op, instance)
        context.tell("shutdown", ref, **about)
        context.tell("deleted", ref, caller=op.caller)
        return
    await clean_up(context, op, instance, again=live.again)
    context.tell("shutdown", ref, **about)
    if live.again:
        if not context.leaving:
            context.restarts[instance.id] = Restart(0)
            schedule(context, instance.id)
    elif instance.ephemeral:
        op.reopen()
        await remove(context, op, context.records.get(ref), clean=True)


def _wants_more(context: Context, instance: Instance, live: Live, status: int) -> bool:
    """Whether its restart policy starts it again. An ephemeral instance is removed instead."""
    if live.again or live.manual or instance.ephemeral or context.leaving:
        return False
    policy = policy_of(expanded(context, instance)[0])
    return policy is not None and policy.wants(status, restarts_of(instance))
