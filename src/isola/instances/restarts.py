"""Start an instance that has rebooted: at once, and in a reboot loop after increasing pauses.

One that has ended is started, if its restart policy says so, after a pause that increases too.

A pause holds no lock: stopping, starting or deleting the instance works at once and ends the pause.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from isola.errors import IsolaError
from isola.host.cancellation import finish
from isola.instances.background import when_idle
from isola.instances.clean_up import clean_up, mark_restarting, record_stopped
from isola.instances.context import Context, Restart
from isola.instances.last_run import about_end
from isola.instances.reboots import forget, pause_before
from isola.instances.restart_policy import pause_after, restarts_of
from isola.instances.start import start
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation

log = logging.getLogger(__name__)


async def rebooted(context: Context, op: Operation, instance: Instance, reboots: int, *, policy: bool = False) -> None:
    """Clean up after a run that ended with a reboot, and start the instance after its pause.

    ``policy``: it has ended, and its restart policy starts it.
    """
    # Cleaning up removes the exit status, by which the next daemon would know of the reboot.
    await op.effect(f"mark {instance.name} as restarting", lambda: mark_restarting(context, instance.id, reboots))
    await clean_up(context, op, instance, reboots=reboots, policy=policy)
    context.tell("shutdown", instance.ref, **about_end(context.records.get(instance.ref)))
    schedule(context, instance.id)


def schedule(context: Context, id: str) -> None:
    """Start it after its pause, which depends on the number of reboots in ``context.restarts``."""
    restart = context.restarts[id]
    work = _after_pause(context, id, restart)
    restart.task = asyncio.get_running_loop().create_task(work, name=f"start {id} again")


async def _after_pause(context: Context, id: str, restart: Restart) -> None:
    seconds = pause_after(restart.reboots) if restart.policy else pause_before(restart.reboots)
    if seconds:
        what = "ended" if restart.policy else "rebooted"
        level = logging.WARNING if seconds >= 1 else logging.INFO
        log.log(level, "Instance %s has %s %d times in a row: it waits %g seconds", id, what, restart.reboots, seconds)
    await context.host.clock.sleep(seconds)
    # A cancelled start is retried: to keep the instance off, it has to be stopped.
    while context.restarts.get(id) is restart:
        operation = await when_idle(
            context,
            id,
            "Starting instance again" if restart.policy else "Starting instance after its reboot",
            lambda op, ref: _start(context, op, ref, restart),
            wanted=lambda: context.restarts.get(id) is restart,
        )
        if operation is None:
            return
        await context.host.clock.sleep(seconds)


async def _start(context: Context, op: Operation, ref: Ref, restart: Restart) -> None:
    instance = context.records.get(ref)
    if context.restarts.get(instance.id) is not restart:
        return
    try:
        await start(context, op, ref, restarts=restarts_of(instance) + 1 if restart.policy else 0)
    except Exception as error:
        log.error("Instance %s could not be started again: %s", ref, error)
        if instance.id not in context.live:
            with suppress(IsolaError):
                await finish(_give_up(context, ref, str(error)))
        raise
    context.tell("restarted", ref)


async def _give_up(context: Context, ref: Ref, why: str) -> None:
    """Record it as stopped after a failed start; if that fails too, the next verb repairs it."""
    id = context.records.get(ref).id
    forget(context, id)
    try:
        await record_stopped(context, ref)
    except IsolaError:
        context.fail(id, why)
        raise
