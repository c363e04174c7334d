"""Stop, restart, pause and resume."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from isola.errors import IsolaError, TimedOut, WrongState
from isola.instances.clean_up import clean_up, mark_restarting
from isola.instances.context import Context, Live
from isola.instances.last_run import about_end
from isola.instances.phases import Phase, RunState
from isola.instances.remove import remove
from isola.instances.running import require_live
from isola.instances.start import start
from isola.instances.supervise import look_after_end
from isola.model.caller import Caller
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.model.signals import HALTING, signal_number
from isola.operations import Operation

_KILL = 9
_HALTING = frozenset(map(signal_number, HALTING))
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 30.0
"""Seconds until a system is asked once more, doubled each time."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How an instance is stopped."""

    timeout: float | None = 30
    """Seconds that a clean stop may take; None waits without limit."""
    force: bool = False
    """Kill it at once."""
    kill: bool = False
    """Kill it after the timeout, instead of failing."""
    signal: int | None = None
    """Sent to its first process instead of its stop signal."""
    by_signal: bool = False
    """It is killed by a signal of a user, and not stopped, as events say."""


async def stop(context: Context, op: Operation, ref: Ref, manner: Manner) -> None:
    """Stop it, and delete it if it is ephemeral."""
    await halt(context, op, ref, manner)
    instance = context.records.get(ref)
    if instance.ephemeral:
        op.reopen()
        await remove(context, op, instance, clean=True)


async def halt(context: Context, op: Operation, ref: Ref, manner: Manner, *, again: bool = False) -> None:
    """Request a shutdown and wait, or kill it. Raises WrongState, TimedOut (it may still end later).

    With ``again`` the next start of the daemon starts it again, also if this daemon is killed meanwhile; if this fails
    or is cancelled after the program has ended, it is cleaned up and started again in the background.
    """
    instance = context.records.get(ref)
    if instance.id not in context.live:
        require_running(context, instance)
        await clean_up(context, op, instance, again=again)
        context.tell("stopped", ref, caller=op.caller)
        return
    live, sent = require_live(context, instance, remedy=""), list[int]()
    if again:
        await op.effect(
            f"mark {ref.name} as restarting",
            lambda: mark_restarting(context, instance.id, 1),
            undo=lambda: mark_restarting(context, instance.id, 0),
        )
    try:
        with op.step("Stop program"):
            if live.state is RunState.FROZEN:
                await thaw(live)
            if live.state is RunState.RUNNING:
                live.enter(RunState.STOPPING)
            if not manner.force:
                await _ask(op, instance, live, manner, sent)
            if live.state is not RunState.ENDED:
                sent.append(_KILL)
        await clean_up(context, op, instance, again=again)
    finally:
        give_back(context, instance, live)
    about = about_end(context.records.get(ref)) | {"signals": sent, "by_signal": manner.by_signal}
    context.tell("stopped", ref, caller=op.caller, **about)


def give_back(context: Context, instance: Instance, live: Live) -> None:
    """After a verb that was to end a run: if that failed, it keeps running, or its remains are cleaned up."""
    if live.state is RunState.STOPPING:
        live.enter(RunState.RUNNING)
    if live.state is RunState.ENDED and context.live.get(instance.id) is live:
        look_after_end(context, instance.id, live)


async def restart(context: Context, op: Operation, ref: Ref, manner: Manner) -> None:
    """Stop and start; a stopped instance is refused as in Incus."""
    await halt(context, op, ref, manner)
    op.reopen()
    await start(context, op, ref)
    context.tell("restarted", ref, caller=op.caller)


async def pause(context: Context, op: Operation, ref: Ref) -> None:
    """Freeze all processes. Raises WrongState if it is not running or already frozen."""
    instance = context.records.get(ref)
    live = require_live(context, instance)
    if live.state is RunState.FROZEN:
        raise WrongState(f"Instance {ref.name!r} is already frozen")
    await op.effect(f"freeze {ref.name}", lambda: freeze(live), undo=lambda: thaw(live))
    await op.commit()
    context.tell("paused", ref, caller=op.caller)


async def resume(context: Context, op: Operation, ref: Ref) -> None:
    """Thaw all processes. Raises WrongState if it is not frozen."""
    instance = context.records.get(ref)
    live = require_live(context, instance)
    if live.state is not RunState.FROZEN:
        raise WrongState(f"Instance {ref.name!r} is not frozen")
    await op.effect(f"thaw {ref.name}", lambda: thaw(live))
    await op.commit()
    context.tell("resumed", ref, caller=op.caller)


def require_running(context: Context, instance: Instance) -> None:
    """Raises WrongState unless it runs, has a pending start, or may have remains of a run."""
    if not context.runs(instance) and context.phase(instance) is not Phase.BROKEN:
        require_live(context, instance, remedy="")


async def send(context: Context, instance: Instance, signum: int, caller: Caller) -> None:
    """A signal to its first process; after its stop signal its restart policy does not apply. Raises WrongState."""
    live = require_live(context, instance)
    if live.state is RunState.ENDED:
        raise WrongState(f"Instance {instance.name!r} is not running")
    plan = live.guest.plan
    live.manual = live.manual or (plan is not None and signum == plan.stop_signal)
    await live.guest.signal(signum)
    context.tell("signalled", instance.ref, caller=caller, signal=signum)


async def freeze(live: Live) -> None:
    """Freeze all processes."""
    await live.guest.pause()
    if live.state is RunState.RUNNING:
        live.enter(RunState.FROZEN)


async def thaw(live: Live) -> None:
    """Thaw all processes."""
    await live.guest.resume()
    if live.state is RunState.FROZEN:
        live.enter(RunState.RUNNING)


async def _ask(op: Operation, instance: Instance, live: Live, manner: Manner, sent: list[int]) -> None:
    plan = live.guest.plan
    if (signum := manner.signal or (plan.stop_signal if plan is not None else 0)) > 0:
        sent.append(signum)
    ask = live.guest.request_stop if manner.signal is None else partial(live.guest.signal, manner.signal)
    await op.effect(f"ask {instance.name} to stop", ask)
    try:
        async with asyncio.timeout(manner.timeout):
            await (_ended(live) if _may_repeat(live, manner) else live.ended.wait())
    except TimeoutError:
        if manner.kill:
            return
        raise TimedOut(
            f"Instance {instance.name!r} did not stop within {manner.timeout:g} seconds",
            evidence="a shutdown was requested, and it may still stop by itself",
            remedy="give it more time, or stop it by force",
        ) from None


def _may_repeat(live: Live, manner: Manner) -> bool:
    """Whether it is a system that halts once, however often it is asked; a program counts its signals."""
    plan = live.guest.plan
    return manner.signal is None and plan is not None and plan.system and plan.stop_signal in _HALTING


async def _ended(live: Live) -> None:
    """Ask again now and then: its init does not hear what comes before it has installed its handlers."""
    pause = _FIRST_PAUSE
    while not live.ended.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await live.ended.wait()
                return
        with suppress(IsolaError):
            await live.guest.request_stop()
        pause = min(2 * pause, _LAST_PAUSE)
