"""Repair an instance with a fault in the background, with increasing pauses, until it succeeds or a verb has done it.

Running instances are not repaired here, because that breaks connections; their next verb or the next daemon does it.
"""

from __future__ import annotations

import asyncio
import logging

from isola.instances.background import when_idle
from isola.instances.context import Context
from isola.instances.fault_repair import repair_fault
from isola.instances.remove import sweep
from isola.model.reference import Ref
from isola.operations import Operation

FIRST, LONGEST = 1.0, 60.0
"""Seconds before the first attempt, and the longest pause: the pauses double."""
log = logging.getLogger(__name__)


def repair_in_background(context: Context, id: str) -> None:
    """Start the repair task, unless it is running."""
    task = context.repairs.get(id)
    if (task is None or task.done()) and not context.leaving:
        task = context.repairs[id] = asyncio.get_running_loop().create_task(_keep_on(context, id), name=f"repair {id}")
        task.add_done_callback(lambda done: context.repairs.pop(id) if context.repairs.get(id) is done else None)


async def _keep_on(context: Context, id: str) -> None:
    pause = FIRST
    while _wanted(context, id):
        await context.host.clock.sleep(pause)
        pause = min(pause * 2, LONGEST)
        before = context.faults.get(id)
        operation = await when_idle(
            context,
            id,
            "Repairing instance",
            lambda op, ref: _attempt(context, op, ref),
            wanted=lambda: _wanted(context, id),
        )
        now = context.faults.get(id)
        if operation is not None and now is not None and (before is None or now.why != before.why):
            log.error("Instance %s cannot be repaired yet: %s", id, now.why)


def _wanted(context: Context, id: str) -> bool:
    return id in context.faults and id not in context.live and not context.leaving


async def _attempt(context: Context, op: Operation, ref: Ref) -> None:
    instance = context.records.get(ref)
    fault = context.faults.get(instance.id)
    if fault is None or instance.id in context.live:
        return
    try:
        if instance.deleting:
            await op.commit()
            await sweep(context, op, instance)
            context.heal(instance.id)
        elif fault.ended is not None:
            await context.after_end(context, op, ref, fault.ended)
        else:
            await repair_fault(context, op, ref)
    except Exception as error:
        left = context.by_id(instance.id)
        if left is not None and (left.deleting or left.id in context.faults):
            context.fail(left.id, str(error), ended=fault.ended)
        raise
