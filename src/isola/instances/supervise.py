"""Supervise running instances: detect their end, and clean up."""

from __future__ import annotations

import asyncio
import logging

from isola.errors import IsolaError
from isola.instances import health, rotation
from isola.instances.background import when_idle
from isola.instances.context import Context, Live
from isola.instances.phases import RunState
from isola.instances.reboots import forget
from isola.model.instance import Instance
from isola.model.last_run import Ending
from isola.model.limits import Limits
from isola.runtimes import Guest

_LOOK_AGAIN = 1.0
log = logging.getLogger(__name__)


def adopt(context: Context, instance: Instance, guest: Guest, limits: Limits, *, frozen: bool = False) -> Live:
    """Begin to supervise a running instance."""
    started = instance.last_used_at or context.host.clock.now()
    reboots = forget(context, instance.id)
    since = context.host.clock.monotonic()
    state = RunState.FROZEN if frozen else RunState.RUNNING
    live = context.live[instance.id] = Live(guest, started, state, limits=limits, since=since, reboots=reboots)
    watch(context, instance.id, live)
    rotation.begin(context, instance, live)
    health.begin(context, instance, live)
    return live


def leave(live: Live) -> None:
    """Stop supervising; the instance keeps running."""
    if live.watcher is not None:
        live.watcher.cancel()
    rotation.end(live)
    health.end(live)


def watch(context: Context, id: str, live: Live) -> None:
    """Wait in the background for the end of an instance; costs no polling."""
    live.watcher = asyncio.get_running_loop().create_task(_watch(context, id, live), name=f"watch {id}")


async def _watch(context: Context, id: str, live: Live) -> None:
    instance = context.by_id(id)
    if instance is None:
        return
    status = await _end_of(context, instance, live)
    for look in context.at_end:
        await look(id, live)
    live.ending = Ending(status, context.host.clock.now(), live.guest.oom_killed(), live.guest.failure())
    stopping = live.state is RunState.STOPPING
    if live.ending.error and not stopping:
        log.error("Instance %s has ended: %s", instance.name, live.ending.error)
    rotation.end(live)
    health.end(live)
    live.enter(RunState.ENDED)
    if not stopping:
        look_after_end(context, id, live)


async def _end_of(context: Context, instance: Instance, live: Live) -> int:
    """The exit status. If it cannot be determined, for example because no descriptors are left, it is retried."""
    while True:
        try:
            return await live.guest.ended()
        except IsolaError as error:
            log.warning("Cannot supervise instance %s, trying again: %s", instance.name, error)
            await context.host.clock.sleep(_LOOK_AGAIN)


def look_after_end(context: Context, id: str, live: Live) -> None:
    """Clean up in the background after an instance has ended and no operation was waiting for it."""
    live.watcher = asyncio.get_running_loop().create_task(_after_end(context, id, live), name=f"clean up {id}")


async def _after_end(context: Context, id: str, live: Live) -> None:
    """The instance ended by itself: clean up, then restart it if requested. Waits for a running operation on it."""
    operation = await when_idle(
        context,
        id,
        "Cleaning up after instance",
        lambda op, ref: context.after_end(context, op, ref, live),
        wanted=lambda: context.live.get(id) is live,
    )
    if operation is None or operation.error is None:
        return
    why, left = str(operation.error) or "cleaning up was cancelled", context.by_id(id)
    if context.live.get(id) is live:
        # It does not run, even if there are remains: record a fault, and retry later.
        context.live.pop(id)
        context.fail(id, why, ended=live)
        context.waits.stopped(id, live.ending.status if live.ending is not None else 0)
    elif left is not None and left.deleting:
        context.fail(id, why)
