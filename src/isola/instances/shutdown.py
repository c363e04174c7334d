"""Stop all instances at shutdown; those that ran are started again at the next start of the daemon."""

from __future__ import annotations

import asyncio
import logging

from isola.errors import IsolaError, TimedOut
from isola.instances.configuration import expanded
from isola.instances.context import Context, entity_of, lock_of
from isola.instances.reboots import leave
from isola.instances.remove import remove
from isola.instances.stop import Manner, halt
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation

log = logging.getLogger(__name__)


async def shutdown(context: Context) -> None:
    """Stop all running instances, those with a higher ``boot.stop.priority`` first; kill them after a timeout."""
    waves: dict[int, list[Instance]] = {}
    for instance in context.records:
        if context.runs(instance):
            config, _ = expanded(context, instance)
            waves.setdefault(int(config.get("boot.stop.priority") or 0), []).append(instance)
    leave(context)
    for priority in sorted(waves, reverse=True):
        await asyncio.gather(*(_stop(context, instance) for instance in waves[priority]))


async def _stop(context: Context, instance: Instance) -> None:
    try:
        await _let_go(context, instance.id)
        found = context.by_id(instance.id)
        if found is None or instance.id not in context.live:
            return
        operation = context.operations.start(
            "Stopping instance with the daemon",
            lambda op, ref=found.ref: _stop_and_remember(context, op, ref),  # type: ignore[misc]
            locks=[lock_of(found.ref)],
            resources=[entity_of(found.ref)],
        )
        await context.operations.finish(operation)
    except IsolaError as error:
        log.error("Instance %s: %s", instance.name, error)


async def _let_go(context: Context, id: str) -> None:
    """Cancel the instance's operations where possible, and wait for them."""
    while (instance := context.by_id(id)) is not None:
        holder = context.operations.holder(lock_of(instance.ref))
        if holder is None:
            return
        if holder.may_cancel:
            holder.cancel()
        await holder.wait()


async def _stop_and_remember(context: Context, op: Operation, ref: Ref) -> None:
    config, _ = expanded(context, context.records.get(ref))
    timeout = float(config.get("boot.host_shutdown_timeout") or 30)
    again = not context.records.get(ref).ephemeral
    try:
        await halt(context, op, ref, Manner(timeout), again=again)
    except TimedOut:
        log.warning("Instance %s did not stop within %g seconds and is killed", ref, timeout)
        await halt(context, op, ref, Manner(force=True), again=again)
    if not again:
        op.reopen()
        await remove(context, op, context.records.get(ref))
