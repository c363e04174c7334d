"""Intents of moves between pools, which exist until all data is in one pool."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from isola.errors import HostFailure, IsolaError
from isola.instances.background import when_idle
from isola.instances.context import Context
from isola.instances.describe import forget_volume
from isola.instances.snapshot_states import remove_state
from isola.model.instance import Instance
from isola.model.storage import Volume
from isola.operations import Operation
from isola.state import Intent

MOVING = "move"
"""The kind of the intent of an instance that is being moved between pools."""
_LONGEST = 60.0
log = logging.getLogger(__name__)


async def announce(
    context: Context, op: Operation, old: Instance, new: Instance, *, with_snapshots: bool
) -> Intent | None:
    """Write the intent before the first effect in the other pool; None if the pool does not change."""
    pool, other = context.pool_name(old), context.pool_name(new)
    if pool == other:
        return None
    facts = {"instance": old.id, "from": pool, "to": other} | ({} if with_snapshots else {"without_snapshots": "1"})
    intent = Intent(f"{MOVING}-{old.id}", MOVING, facts)

    async def withdraw() -> None:
        if old.id in await context.pools.driver(other).volumes():
            raise HostFailure(f"A volume {old.id} is left in pool {other!r}", remedy="the daemon removes it by itself")
        await context.intents.end(intent.id)

    await op.effect(f"announce move of {old.name}", lambda: context.intents.begin(intent), undo=withdraw)
    return intent


async def settle(context: Context, op: Operation, intent: Intent) -> None:
    """Remove the old data after the commit. A failure is left to the next move or the next daemon."""
    try:
        await finish_move(context, op, intent)
    except IsolaError as error:
        log.warning("What instance %s has left in pool %s stays for now: %s", *_named(intent), error)


def finish_later(context: Context, id: str) -> None:
    """Retry removing the remains of a move with pauses, until it succeeds or the daemon ends."""
    task = asyncio.get_running_loop().create_task(_by_and_by(context, id), name=f"finish move of {id}")
    context.releasing.add(task)
    task.add_done_callback(context.releasing.discard)


async def _by_and_by(context: Context, id: str) -> None:
    pause = 0.0
    while moves_of(context, id):
        await context.host.clock.sleep(pause)
        pause = min(max(pause * 2, 1.0), _LONGEST)
        # While no other operation works on it, no move is in progress.
        await when_idle(
            context,
            id,
            "Finishing a move",
            lambda op, _: _finish_all(context, op, id),
            wanted=lambda: bool(moves_of(context, id)),
        )
        if context.by_id(id) is None:
            return  # left to its deletion or the next daemon


def moves_of(context: Context, id: str) -> list[Intent]:
    """Intents of current or incomplete moves of an instance."""
    return [intent for intent in context.intents.of_kind(MOVING) if intent.facts.get("instance") == id]


async def _finish_all(context: Context, op: Operation, id: str) -> None:
    await op.commit()
    await finish_moves_of(context, op, id)


async def finish_moves_of(context: Context, op: Operation, id: str) -> None:
    """Remove the remains of earlier moves before the next one. Raises the errors of doing so."""
    for intent in moves_of(context, id):
        await finish_move(context, op, intent)


async def finish_moves(context: Context) -> None:
    """At the start of the daemon: complete or undo moves that an earlier daemon did not finish."""
    for intent in list(context.intents.of_kind(MOVING)):
        operation = context.operations.start("Finishing a move", partial(_finish, context, intent), locks=[intent.id])
        try:
            await context.operations.finish(operation)
        except IsolaError as error:
            log.error("What instance %s has left in pool %s stays for now: %s", *_named(intent), error)


async def finish_move(context: Context, op: Operation, intent: Intent) -> None:
    """Remove its data from the pool that is not in its record. Can be repeated."""
    facts = intent.facts
    id, instance = facts.get("instance", ""), context.by_id(facts.get("instance", ""))
    here = context.pool_name(instance) if instance is not None else ""
    known = {pool.name for pool in context.pools}
    for pool in (facts.get("from", ""), facts.get("to", "")):
        if pool != here and pool in known:
            await forget_volume(context, op, Volume(id=id, pool=pool))
    if facts.get("without_snapshots") and here == facts.get("to"):
        for snapshot in [each for each in context.snapshots if each.instance.id == id]:
            await remove_state(context, snapshot)
            await context.snapshots.remove(snapshot.key)
    await context.intents.end(intent.id)


async def _finish(context: Context, intent: Intent, op: Operation) -> None:
    await op.commit()
    await finish_move(context, op, intent)


def _named(intent: Intent) -> tuple[str, str]:
    return intent.facts.get("instance", ""), intent.facts.get("from", "")
