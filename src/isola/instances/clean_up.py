"""Remove the remains of a run from the host."""

from __future__ import annotations

import dataclasses

from isola.host.cancellation import all_done
from isola.instances.context import Context, Restart
from isola.instances.identity import plugs_of
from isola.instances.last_run import after, ending_of, last_status
from isola.instances.reboots import forget
from isola.instances.volatile import LAST_BOOT, PREVIOUS, RESTARTING, RETIRING, ROLE
from isola.model.instance import Desired, Instance
from isola.model.last_run import Ending
from isola.model.reference import Ref
from isola.operations import Operation


async def clean_up(
    context: Context,
    op: Operation,
    instance: Instance,
    *,
    again: bool = False,
    reboots: int = 0,
    policy: bool = False,
) -> None:
    """Remove every trace of a run from the host and record that it is stopped.

    With ``again``, the record makes the next start of the daemon start the instance. With ``reboots``, it has
    rebooted, or with ``policy`` ended, that many times in quick succession and waits for its next start.
    This cannot be undone, but can be repeated: after a failure the record still says running, and the next stop or the
    next start of the daemon continues.
    """
    ending = await end_run(context, op, instance, again=again)
    # The links of its NICs vanish some time after its namespace, and an unmount waits for the kernel as well.
    storage, volume = context.storage(instance), context.volume(instance)
    await all_done(take_devices(context, op, instance), storage.unmount(op, volume, instance.id))
    await op.commit(lambda: record_stopped(context, instance.ref, ending, again=again, reboots=reboots, policy=policy))


async def end_run(context: Context, op: Operation, instance: Instance, *, again: bool = False) -> Ending | None:
    """Remove its processes and their network; returns how it ended."""
    ending = await op.effect(f"remove processes of {instance.name}", lambda: _end(context, instance, again=again))
    await op.effect(
        f"remove network namespace of {instance.name}", lambda: context.networks.namespaces.remove(instance.id)
    )
    return ending


async def take_devices(context: Context, op: Operation, instance: Instance) -> None:
    """Detach the devices of an instance whose processes are gone."""
    changing = context.devices.plugs(instance, instance.changing)
    await context.devices.detach(op, (*plugs_of(context, instance), *changing, *context.strays(instance.id)))
    await context.devices.forget_run(instance.id)


async def _end(context: Context, instance: Instance, *, again: bool) -> Ending | None:
    """Mark the run as ended by this operation, even if a later step fails or is cancelled; returns how it ended."""
    if (live := context.live.get(instance.id)) is not None:
        live.again = again
    ending = await ending_of(context, instance)
    await context.runtime(instance).remove(instance.id)
    return ending


async def mark_restarting(context: Context, id: str, reboots: int) -> None:
    """If the daemon is killed while the record is marked, the next one starts the instance, running or not, again.

    ``reboots``: in quick succession, with this one; 0 removes the mark.
    """

    def changed(instance: Instance) -> Instance:
        volatile = {key: value for key, value in instance.volatile.items() if key != RESTARTING}
        return dataclasses.replace(instance, volatile=volatile | ({RESTARTING: str(reboots)} if reboots else {}))

    if (instance := context.by_id(id)) is not None:
        await context.records.change(instance.ref, changed)


async def record_stopped(
    context: Context,
    ref: Ref,
    ending: Ending | None = None,
    *,
    again: bool = False,
    reboots: int = 0,
    policy: bool = False,
) -> None:
    """Record how its run ended, and whether it is to be started again; stop supervising it.

    ``ending``: None if that is recorded already.
    """
    gone = {RESTARTING, LAST_BOOT} if again else {RESTARTING}

    def without_run(instance: Instance) -> Instance:
        volatile = {key: value for key, value in instance.volatile.items() if key not in gone}
        if reboots:
            volatile[RESTARTING] = str(reboots)
        if volatile.get(ROLE) == RETIRING:
            volatile[ROLE] = PREVIOUS
        desired = Desired.RUNNING if again or reboots else Desired.STOPPED
        stopped = dataclasses.replace(instance.wanted(desired), volatile=volatile)
        return stopped if ending is None else after(stopped, ending)

    stopped = (await context.records.change(ref, without_run, pure=True)).value
    forget_run(context, stopped.id)
    if stopped.desired is Desired.STOPPED and stopped.id not in context.saved:
        context.devices.rest(stopped)
    if reboots:
        context.restarts[stopped.id] = Restart(reboots, policy)
    context.waits.stopped(stopped.id, last_status(context, stopped), ran=ending is not None)


def forget_run(context: Context, id: str) -> None:
    """Stop supervising a run of which nothing is left, and tell the clients of its console."""
    forget(context, id)
    context.heal(id)
    live = context.live.pop(id, None)
    for console in [*live.consoles, *live.displays] if live is not None else []:
        console.set()
