"""Deploy a new version of an instance, or let the previous one serve again.

Until the other version serves, every step is undone after a failure, and by the next daemon after a kill (``undo.py``);
from then on the version that has served is stopped, and kept.
"""

from __future__ import annotations

import dataclasses
import logging

from isola.errors import IsolaError, NotFound
from isola.host.cancellation import finish
from isola.instances.deploy.aside import finish_removal, remove_aside, set_aside
from isola.instances.deploy.candidate import discard, held_back, make, request_of
from isola.instances.deploy.carried import carry
from isola.instances.deploy.draining import drained
from isola.instances.deploy.exchange import exchange, serve_first
from isola.instances.deploy.healthy import wait_healthy
from isola.instances.deploy.history import prune
from isola.instances.deploy.holding import hold
from isola.instances.deploy.parts import Attempt, previous_of
from isola.instances.deploy.undo import announce, keep_undoing
from isola.instances.fault_repair import repair_fault
from isola.instances.start import start
from isola.instances.stop import Manner, halt
from isola.instances.volatile import HELD
from isola.model.deployment import Version
from isola.model.instance import Instance
from isola.model.reference import Ref

log = logging.getLogger(__name__)


async def deploy(attempt: Attempt, version: Version) -> None:
    """Raises ProgramFailed or TimedOut if the new version is not healthy; then the old one serves as before."""
    context, op, names = attempt.context, attempt.op, attempt.names
    serving = context.records.find(names.serving)
    if serving is not None:
        await _repaired(attempt, names.serving)
        await finish_removal(attempt)
    request = request_of(context, serving, names, version, attempt.terms.strategy)
    before = previous_of(context, serving) if serving is not None else None
    await announce(attempt, serving, aside=before)
    op.if_undo_fails(lambda _: keep_undoing(context, attempt.intent))
    with op.step(f"Create {names.next.name}"):
        op.on_rollback(f"remove {names.next.name}", lambda: discard(attempt))
        await make(attempt, request)
    if serving is not None:
        await carry(attempt, serving)
    if serving is None:
        await _started(attempt)
        await serve_first(attempt)
    else:
        await _take_over(attempt, serving, before)
        await prune(attempt, serving)
    _tell(attempt, "deployed")


async def rollback(attempt: Attempt) -> None:
    """The previous version is started, and serves when it is healthy; the one that served is kept in its place."""
    context, names = attempt.context, attempt.names
    await _repaired(attempt, names.serving)
    serving = attempt.serving()
    other = previous_of(context, serving)
    if other is None or other.ref != names.next:
        raise NotFound(f"There is no previous version of {serving.name!r}", remedy="deploy a version first")
    await _repaired(attempt, names.next)
    held = held_back(context, serving, other, attempt.terms.strategy)[1]
    await announce(attempt, serving, other)
    if other.id not in context.live:
        await _hold(attempt, names.next, ",".join(sorted(held)), other)
    await _take_over(attempt, serving)
    _tell(attempt, "rolled-back")


async def _take_over(attempt: Attempt, serving: Instance, oldest: Instance | None = None) -> None:
    """``oldest``: the previous version until now, which is removed when there is another one."""
    op = attempt.op
    if attempt.stops_first:
        await _stop_serving(attempt, serving)
    await _started(attempt)
    if oldest is not None:
        with op.step(f"Set {oldest.name} aside"):
            await set_aside(attempt, oldest)
    try:
        with op.step("Switch"):
            await exchange(attempt, oldest)
    finally:
        if op.committed:
            await finish(_end(attempt, serving.id, oldest))


async def _end(attempt: Attempt, id: str, oldest: Instance | None) -> None:
    if oldest is not None:
        await remove_aside(attempt, oldest)
    await _retire(attempt, id)


async def _repaired(attempt: Attempt, ref: Ref) -> None:
    """Repair what an earlier verb could not finish."""
    if attempt.context.records.get(ref).id in attempt.context.faults:
        await attempt.step(ref, "Repairing instance", lambda op: repair_fault(attempt.context, op, ref))


async def _started(attempt: Attempt) -> None:
    """Start the version that is tried out, and wait until it is healthy."""
    context, op, ref = attempt.context, attempt.op, attempt.names.next
    candidate = attempt.candidate()
    if candidate.id not in context.live:
        with op.step(f"Start {candidate.name}"):
            if not attempt.made:
                op.on_rollback(f"stop {candidate.name}", lambda: _stop(attempt, ref))
            await attempt.step(ref, "Starting a version", lambda inner: start(context, inner, ref))
    with op.step(f"Wait until {candidate.name} is healthy"):
        await wait_healthy(context, attempt.candidate(), attempt.terms)


async def _stop(attempt: Attempt, ref: Ref) -> None:
    """No effect if it does not run."""
    context = attempt.context
    if context.runs(context.records.get(ref)):
        await attempt.step(ref, "Stopping a version", lambda op: halt(context, op, ref, Manner(force=True)))


async def _hold(attempt: Attempt, ref: Ref, held: str, before: Instance) -> None:
    """Change which devices it has, with an undo."""
    context = attempt.context

    async def back() -> None:
        was = before.volatile.get(HELD, "")
        await attempt.step(ref, "Changing devices", lambda op: hold(context, op, ref, was, known=before.plugged))

    attempt.op.on_rollback(f"devices of {ref.name}", back)
    await attempt.step(ref, "Changing devices", lambda op: hold(context, op, ref, held, known=before.plugged))


async def _stop_serving(attempt: Attempt, serving: Instance) -> None:
    """Stop it, and give the devices that only one can have to the version that is tried out."""
    context, op, ref = attempt.context, attempt.op, attempt.names.serving
    candidate = attempt.candidate()
    if context.runs(serving):

        async def again() -> None:
            if context.runs(context.records.get(ref)):  # it may have been asked to stop
                await attempt.step(
                    ref, "Stopping instance", lambda inner: halt(context, inner, ref, manner, again=True)
                )
            await attempt.step(ref, "Starting instance", lambda inner: start(context, inner, ref))

        manner = Manner(timeout=attempt.terms.stop_timeout, kill=True)
        with op.step(f"Stop {serving.name}"):
            op.on_rollback(f"start {serving.name} again", again)
            await attempt.step(ref, "Stopping instance", lambda inner: halt(context, inner, ref, manner, again=True))
    mine, _ = held_back(context, serving, candidate, attempt.terms.strategy)
    await _hold(attempt, ref, ",".join(sorted(mine)), context.records.get(ref))
    known = dataclasses.replace(candidate, plugged={**serving.plugged, **candidate.plugged})
    await _hold(attempt, attempt.names.next, "", known)


async def _retire(attempt: Attempt, id: str) -> None:
    """Stop the version that has served, when its connections have had some time."""
    context, op = attempt.context, attempt.op
    instance = context.by_id(id)
    if instance is None or not context.runs(instance):
        return
    with op.step(f"Stop {instance.name}"):
        await drained(context, instance, attempt.terms.drain)
        for manner in (Manner(timeout=attempt.terms.stop_timeout, kill=True), Manner(force=True)):
            try:
                if context.runs(context.records.get(instance.ref)):
                    await attempt.step(
                        instance.ref,
                        "Stopping a version",
                        lambda inner, how=manner: halt(context, inner, instance.ref, how),  # type: ignore[misc]
                    )
                return
            except IsolaError as error:
                log.error("The former version %s could not be stopped: %s", instance.name, error)
        op.warnings.append(f"{instance.name} could not be stopped: the daemon's log says why")


def _tell(attempt: Attempt, action: str) -> None:
    context = attempt.context
    serving = attempt.serving()
    before = previous_of(context, serving)
    about = {"fingerprint": serving.image, "previous": before.name if before is not None else ""}
    attempt.op.update_metadata(**about)
    context.tell(action, serving.ref, caller=attempt.op.caller, **about)
