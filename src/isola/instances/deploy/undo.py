"""Deployments that were interrupted before another version served: undone by the next daemon, or in the background."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from functools import partial

from isola.errors import HostFailure, IsolaError
from isola.instances.clean_up import clean_up
from isola.instances.context import Context, lock_of
from isola.instances.deploy.aside import facts_of, give_name_back
from isola.instances.deploy.candidate import remove_now
from isola.instances.deploy.parts import Attempt, is_next
from isola.instances.volatile import CHANGING, DEVICES, HELD, LAST_BOOT, RESTARTING
from isola.model.instance import Desired, Instance
from isola.model.reference import Ref
from isola.operations import Operation
from isola.state import Intent

BEGUN = "deploy"
"""The kind of the intent of a deployment. Its facts: ``project``; ``next``, the name of the version that is tried out;
``serving``, the id of the one that serves, if there is one; ``stopped`` if that is stopped first; ``kept``, the id of
the version that is tried out if it was not made for that; what ``aside.py`` adds.
"""
_FIRST, _LONGEST = 1.0, 60.0
log = logging.getLogger(__name__)


async def announce(
    attempt: Attempt, serving: Instance | None, kept: Instance | None = None, *, aside: Instance | None = None
) -> None:
    """Write the intent; its undo fails as long as the version that is tried out is left."""
    context = attempt.context
    facts = {"project": attempt.names.next.project, "next": attempt.names.next.name}
    facts |= {"serving": serving.id} if serving is not None else {}
    facts |= {"kept": kept.id} if kept is not None else {}
    facts |= facts_of(aside)
    if attempt.stops_first and serving is not None and context.runs(serving):
        facts["stopped"] = "true"
    intent = Intent(attempt.intent, BEGUN, facts)

    async def withdraw() -> None:
        if attempt.made and is_next(context.records.find(attempt.names.next)):
            raise HostFailure(f"{attempt.names.next.name} is left", remedy="the daemon removes it by itself")
        await context.intents.end(intent.id)

    await attempt.op.effect(
        f"announce a version of {attempt.names.serving.name}", lambda: context.intents.begin(intent), undo=withdraw
    )


async def undo_begun(context: Context) -> None:
    """At the start of the daemon, before any instance is adopted: the versions that served do so again."""
    for intent in list(context.intents.of_kind(BEGUN)):
        ref = _next(intent)
        operation = context.operations.start(
            "Undoing a deployment", partial(_undo, context, intent), locks=[lock_of(ref)]
        )
        try:
            await context.operations.finish(operation)
        except IsolaError as error:
            log.error("The incomplete deployment of %s cannot be undone yet: %s", ref.name, error)
            keep_undoing(context, intent.id)


async def _undo(context: Context, intent: Intent, op: Operation) -> None:
    """Can be repeated. What the versions had of each other is repaired when they are reconciled."""
    ref = _next(intent)
    await _take_back(context, context.by_id(intent.facts.get("serving", "")))
    found = context.records.find(ref)
    if "kept" not in intent.facts:
        if is_next(found):
            await remove_now(context, op, ref)
    elif found is not None and found.id == intent.facts["kept"]:
        await clean_up(context, op, found)
    await give_name_back(context, op, intent)
    serving = context.by_id(intent.facts.get("serving", ""))
    if serving is not None and intent.facts.get("stopped"):
        await context.records.change(serving.ref, lambda found: _to_be_started(context, found), pure=True)
    await context.intents.end(intent.id)


async def _take_back(context: Context, serving: Instance | None) -> None:
    """Published ports lead to the version that serves before the other one, which may have them, is removed."""
    if serving is None or serving.volatile.get(CHANGING) != DEVICES:
        return
    plugs = [plug for plug in context.devices.plugs(serving) if plug.name in serving.changing]
    taken = [await context.devices.driver(plug.state.kind).take_back(plug) for plug in plugs]
    if len(taken) == len(serving.changing) and all(taken):
        await context.records.change(serving.ref, _unchanging, pure=True)


def _unchanging(instance: Instance) -> Instance:
    volatile = {key: value for key, value in instance.volatile.items() if key != CHANGING}
    return dataclasses.replace(instance, volatile=volatile, changing={})


def _to_be_started(context: Context, instance: Instance) -> Instance:
    """It has all its devices again; the daemon that is starting starts it."""
    volatile = {key: value for key, value in instance.volatile.items() if key != HELD}
    if instance.desired is Desired.RUNNING:
        volatile |= {RESTARTING: "1", LAST_BOOT: context.host.system.boot_id()}
    return dataclasses.replace(instance, volatile=volatile)


def keep_undoing(context: Context, intent: str) -> None:
    """Remove the version that was tried out in the background, with increasing pauses, until it succeeds."""
    task = asyncio.get_running_loop().create_task(_keep_on(context, intent), name=f"undo deployment {intent}")
    context.releasing.add(task)
    task.add_done_callback(context.releasing.discard)


async def _keep_on(context: Context, id: str) -> None:
    pause = _FIRST
    while intent := next((each for each in context.intents.of_kind(BEGUN) if each.id == id), None):
        await context.host.clock.sleep(pause)
        pause = min(2 * pause, _LONGEST)
        ref = _next(intent)
        operation = context.operations.start(
            "Undoing a deployment", partial(_remove, context, intent), locks=[lock_of(ref)]
        )
        await operation.wait()
        if operation.error is not None:
            log.warning("The incomplete deployment of %s cannot be undone yet: %s", ref.name, operation.error)


async def _remove(context: Context, intent: Intent, op: Operation) -> None:
    """The rest of the undo, by this daemon: the versions are supervised."""
    ref = _next(intent)
    if "kept" not in intent.facts and is_next(context.records.find(ref)):
        await remove_now(context, op, ref)
    await give_name_back(context, op, intent)
    await context.intents.end(intent.id)


def _next(intent: Intent) -> Ref:
    return Ref(intent.facts["project"], intent.facts["next"])
