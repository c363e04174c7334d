"""Let another version serve: names, published ports and names in DNS change in one step."""

from __future__ import annotations

import dataclasses

from isola.devices.devices import Change
from isola.instances.changing import announce
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.deploy import history
from isola.instances.deploy.aside import doomed
from isola.instances.deploy.candidate import held_back
from isola.instances.deploy.parts import Attempt
from isola.instances.describe import describe_change
from isola.instances.endpoint import target_of
from isola.instances.fault_repair import marks
from isola.instances.identity import plugs_of, refreshed
from isola.instances.templates import renamed
from isola.instances.volatile import (
    CHANGING,
    DEPLOYED_AT,
    DEVICES,
    HELD,
    HISTORY,
    PREVIOUS,
    PREVIOUS_ID,
    RESTARTING,
    RETIRING,
    ROLE,
    SERVES,
)
from isola.model.deployment import Strategy
from isola.model.instance import Config, Desired, Instance
from isola.operations import Operation
from isola.state import Versioned

_OF_DEPLOYMENT = (ROLE, SERVES, HELD, PREVIOUS_ID, DEPLOYED_AT, HISTORY)


async def exchange(attempt: Attempt, oldest: Instance | None) -> None:
    """The commit of the attempt: from then on the other version serves, and the old one is to be stopped.

    ``oldest``: the version that was set aside, which is to be removed.
    """
    context, op = attempt.context, attempt.op
    old, new = context.records.read(attempt.names.serving), context.records.read(attempt.names.next)
    after_new = await _serving(attempt, old.value, new.value)
    after_old = await _retired(attempt, old.value, after_new)
    for before, after in ((old.value, after_old), (new.value, after_new)):
        marks(context, op, before.id, (*plugs_of(context, before), *plugs_of(context, after)))
    held_old, held_new = await _announced(context, op, old, after_old), await _announced(context, op, new, after_new)
    await context.devices.hand_over(op, _change(context, old.value, after_old), _change(context, new.value, after_new))
    for after in (after_new, after_old):
        before = dataclasses.replace(new.value if after is after_new else old.value, plugged=after.plugged)
        await context.devices.rename_running(op, before, after)
    await describe_change(context, op, new.value, after_new)
    await describe_change(context, op, old.value, after_old)
    moves = {
        attempt.names.serving: (attempt.names.previous, Versioned(after_old, held_old.revision)),
        attempt.names.next: (attempt.names.serving, Versioned(after_new, held_new.revision)),
        **doomed(context, oldest),
    }
    await op.commit(lambda: context.records.rename_all(moves, context.intents.ending(attempt.intent)))
    context.intents.ended(attempt.intent)
    context.devices.forget(plugs_of(context, old.value), but=after_old)


async def serve_first(attempt: Attempt) -> None:
    """The same for the first version, which has no other one beside it."""

    context, op, ref = attempt.context, attempt.op, attempt.names.serving
    held = context.records.read(ref)
    after = dataclasses.replace(held.value, volatile=_without(held.value.volatile) | {DEPLOYED_AT: attempt.at})
    await context.devices.rename_running(op, held.value, after)
    await describe_change(context, op, held.value, after)
    moves = {ref: (ref, Versioned(after, held.revision))}
    await op.commit(lambda: context.records.rename_all(moves, context.intents.ending(attempt.intent)))
    context.intents.ended(attempt.intent)


async def _serving(attempt: Attempt, old: Instance, new: Instance) -> Instance:
    """The record of the version that is to serve."""
    volatile = dict(new.volatile)
    if (name := volatile.get(SERVES)) and name != old.name:
        volatile = renamed(volatile, name)  # it was made under another name
    volatile = _without(volatile) | {PREVIOUS_ID: old.id, DEPLOYED_AT: attempt.at}
    volatile |= {HISTORY: found} if (found := history.before(attempt.context, old, new)) else {}
    known = {**old.plugged, **new.plugged}  # a port that was chosen stays
    wanted = dataclasses.replace(new, name=old.name, volatile=volatile, plugged=known)
    return await refreshed(attempt.context, attempt.op, wanted, expanded(attempt.context, wanted)[1])


async def _retired(attempt: Attempt, old: Instance, new: Instance) -> Instance:
    """The record of the version that has served: it is stopped, even if this daemon is killed now."""
    held, _ = held_back(attempt.context, old, new, Strategy.STOP_FIRST)
    volatile = {key: value for key, value in _without(old.volatile).items() if key != RESTARTING}
    volatile |= {ROLE: RETIRING, SERVES: old.name, HELD: ",".join(sorted(held))}
    if old.id not in attempt.context.live:
        old, volatile[ROLE] = old.wanted(Desired.STOPPED), PREVIOUS
    wanted = dataclasses.replace(old, name=attempt.names.previous.name, volatile=volatile)
    return await refreshed(attempt.context, attempt.op, wanted, expanded(attempt.context, wanted)[1])


def _without(volatile: Config) -> dict[str, str]:
    return {key: value for key, value in volatile.items() if key not in _OF_DEPLOYMENT}


async def _announced(
    context: Context, op: Operation, before: Versioned[Instance], after: Instance
) -> Versioned[Instance]:
    changing = context.devices.changing(before.value, after)
    if before.value.id not in context.live or not changing or CHANGING in before.value.volatile:
        return before
    return await announce(context, op, before, DEVICES, changing)


def _change(context: Context, before: Instance, after: Instance) -> Change:
    """The devices are registered under its former name at first."""
    kept = dataclasses.replace(after, name=before.name, volatile=before.volatile)
    return Change(before, kept, target_of(context, before, context.live.get(before.id)))
