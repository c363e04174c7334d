"""Start an instance again that has rebooted: the first time at once, then after pauses that grow while it keeps on.

A pause holds no lock: to stop, start or delete the instance meanwhile works at once and ends the pause.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from isola.errors import IsolaError
from isola.host.cancellation import finish
from isola.instances.background import when_idle
from isola.instances.context import Context, Live, Restart
from isola.model.reference import Ref
from isola.operations import Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Start = Callable[[Context, Operation, Ref], Awaitable[None]]

RESTARTING = "last_state.restarting"
"""Volatile fact while a pause lasts: how many reboots in quick succession there have been."""
_STEADY = 60.0
"""Seconds after which a run is not part of a quick succession."""
_LONGEST = 60.0
log = logging.getLogger(__name__)


def reboots_after(context: Context, live: Live) -> int:
    """How many reboots in quick succession there are with the one that has just ended this run."""
    return 1 if context.host.clock.monotonic() - live.since >= _STEADY else live.reboots + 1


def pause_before(reboots: int) -> float:
    """Seconds to wait before the start that follows so many reboots in quick succession."""
    return 0.0 if reboots <= 1 else min(2.0 ** min(reboots - 2, 10), _LONGEST)


def schedule(context: Context, id: str, start: Start) -> None:
    """Start it again once its pause has passed; ``context.restarts`` says how often it has rebooted."""
    restart = context.restarts[id]
    work = _after_pause(context, id, restart, start)
    restart.task = asyncio.get_running_loop().create_task(work, name=f"start {id} again")


def forget(context: Context, id: str) -> int:
    """No start is pending any more; returns how many reboots in quick succession there were."""
    restart = context.restarts.pop(id, None)
    if restart is None:
        return 0
    if restart.task is not None:
        restart.task.cancel()
    return restart.reboots


def leave(context: Context) -> None:
    """The daemon ends: the records say what the next one is to go on with."""
    for restart in context.restarts.values():
        if restart.task is not None:
            restart.task.cancel()


async def _after_pause(context: Context, id: str, restart: Restart, start: Start) -> None:
    seconds = pause_before(restart.reboots)
    log.warning("Instance %s has rebooted %d times in a row: it waits %g seconds", id, restart.reboots, seconds)
    await context.host.clock.sleep(seconds)
    # A start that was cancelled is tried again: an instance that is to stay off is stopped.
    while context.restarts.get(id) is restart:
        operation = await when_idle(
            context,
            id,
            "Starting instance after its reboot",
            lambda op, ref: _start(context, op, ref, restart, start),
            wanted=lambda: context.restarts.get(id) is restart,
        )
        if operation is None:
            return
        await context.host.clock.sleep(seconds)


async def _start(context: Context, op: Operation, ref: Ref, restart: Restart, start: Start) -> None:
    instance = context.records.get(ref)
    if context.restarts.get(instance.id) is not restart:
        return
    try:
        await start(context, op, ref)
    except Exception as error:
        log.error("Instance %s could not be started after its reboot: %s", ref, error)
        with suppress(IsolaError):
            await finish(_give_up(context, ref, str(error)))
        raise
    context.tell("restarted", ref)


async def _give_up(context: Context, ref: Ref, why: str) -> None:
    """What could not be started is stopped; if not even that can be recorded, the next verb sees to it."""
    from isola.instances.supervise import record_stopped

    id = context.records.get(ref).id
    forget(context, id)
    try:
        await record_stopped(context, ref)
    except IsolaError:
        context.broken[id] = why
        raise
