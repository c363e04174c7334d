"""Look after running instances: notice the end, clean up, start again after a reboot."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from isola.errors import IsolaError
from isola.instances.background import when_idle
from isola.instances.context import Context, Live, Restart
from isola.instances.identity import nics_of
from isola.instances.remove import remove
from isola.instances.restarts import RESTARTING, forget, pause_before, reboots_after, schedule
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation

LAST_BOOT = "last_state.boot"
"""Volatile fact: the boot of the host in which the instance was last made or started."""
_LOOK_AGAIN = 1.0
log = logging.getLogger(__name__)
REBOOT = 128 + 1
"""A first process that ends by SIGHUP: the kernel's word for reboot() inside a PID namespace."""


def watch(context: Context, id: str, live: Live) -> None:
    """Wait in the background for the end of an instance; costs no polling."""
    live.watcher = asyncio.get_running_loop().create_task(_watch(context, id, live), name=f"watch {id}")


async def _watch(context: Context, id: str, live: Live) -> None:
    instance = context.by_id(id)
    if instance is None:
        return
    live.exit_status = await _end_of(context, instance, live)
    live.ended.set()
    if not live.stopping:
        look_after_end(context, id, live)


async def _end_of(context: Context, instance: Instance, live: Live) -> int:
    """The exit status. Where it cannot be looked at, for want of descriptors say, it is looked at again."""
    while True:
        try:
            return await live.guest.ended()
        except IsolaError as error:
            log.warning("Cannot look after instance %s, and try again: %s", instance.name, error)
            await context.host.clock.sleep(_LOOK_AGAIN)


def look_after_end(context: Context, id: str, live: Live) -> None:
    """Clean up in the background after an instance that has ended while nobody who waited for it did."""
    live.watcher = asyncio.get_running_loop().create_task(_after_end(context, id, live), name=f"clean up {id}")


async def _after_end(context: Context, id: str, live: Live) -> None:
    """The instance ended by itself: clean up, then what it asked for. Waits for whoever works on it now."""
    operation = await when_idle(
        context,
        id,
        "Cleaning up after instance",
        lambda op, ref: _ended(context, op, ref, live),
        wanted=lambda: context.live.get(id) is live,
    )
    if operation is not None and operation.error is not None and context.live.get(id) is live:
        # It does not run, whatever is left of it: say so, and let the next start or deletion clean up.
        context.live.pop(id)
        context.broken[id] = str(operation.error) or "cleaning up was cancelled"


async def _ended(context: Context, op: Operation, ref: Ref, live: Live) -> None:
    instance = context.records.get(ref)
    if context.live.get(instance.id) is not live:
        return
    if live.exit_status == REBOOT:
        await _rebooted(context, op, instance, reboots_after(context, live))
        return
    await clean_up(context, op, instance)
    context.tell("shutdown", ref)
    if instance.ephemeral:
        op.reopen()
        await remove(context, op, context.records.get(ref), clean=True)


async def _rebooted(context: Context, op: Operation, instance: Instance, reboots: int) -> None:
    """Start it again: now, or where it does little else than reboot, after a pause without the lock."""
    from isola.instances.start import start

    pauses = pause_before(reboots) > 0
    await clean_up(context, op, instance, reboots=reboots if pauses else 0)
    context.tell("shutdown", instance.ref)
    if pauses:
        schedule(context, instance.id, start)
        return
    op.reopen()
    context.restarts[instance.id] = Restart(reboots)
    try:
        await start(context, op, instance.ref)
    finally:
        forget(context, instance.id)
    context.tell("restarted", instance.ref)


async def clean_up(
    context: Context, op: Operation, instance: Instance, *, again: bool = False, reboots: int = 0
) -> None:
    """Remove every trace of a run from the host and record that it is stopped.

    With ``again`` the record says that the next start of the daemon starts it again, whatever happens until then;
    with ``reboots`` that it has rebooted so often in quick succession and waits for its next start.
    Nothing of this can be undone, all of it can be repeated: a failure leaves the record as running, and the next
    stop or the next start of the daemon goes on.
    """
    runtime = context.runtime(instance)
    await op.effect(f"remove processes of {instance.name}", lambda: runtime.remove(instance.id))
    await op.effect(
        f"remove network namespace of {instance.name}", lambda: context.networks.namespaces.remove(instance.id)
    )
    for nic in nics_of(context, instance):
        network = context.networks.find(nic.network)
        if network is not None:
            await context.networks.driver(nic.network).detach(op, network, nic)
    await context.storage(instance).unmount(op, context.volume(instance), instance.id)
    await op.commit(lambda: record_stopped(context, instance.ref, again=again, reboots=reboots))


async def record_stopped(context: Context, ref: Ref, *, again: bool = False, reboots: int = 0) -> None:
    """Record that it does not run, and whether it shall again; from now on it is not looked after."""
    gone = {RESTARTING, LAST_BOOT} if again else {RESTARTING}

    def without_run(instance: Instance) -> Instance:
        volatile = {key: value for key, value in instance.volatile.items() if key not in gone}
        if reboots:
            volatile[RESTARTING] = str(reboots)
        desired = "running" if again or reboots else "stopped"
        return dataclasses.replace(instance, desired=desired, volatile=volatile)

    stopped = (await context.records.change(ref, without_run)).value
    forget(context, stopped.id)
    context.broken.pop(stopped.id, None)
    if reboots:
        context.restarts[stopped.id] = Restart(reboots)
    live = context.live.pop(stopped.id, None)
    for console in list(live.consoles) if live is not None else []:
        console.set()
