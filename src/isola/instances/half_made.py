"""What creations have left whose undo failed or was interrupted, and the files of ephemeral instances that have ended:
removed in the background.

Until then there is an intent in the store, so that the next daemon removes them, too; nothing else is ever removed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from contextlib import suppress

from isola.devices import Plug
from isola.errors import IsolaError
from isola.instances.context import Context, HalfMade
from isola.instances.describe import forget_volume
from isola.instances.ranges import give_back
from isola.instances.remove import remove_logs
from isola.instances.snapshot_records import forget as forget_snapshots
from isola.model.reference import DEFAULT_PROJECT, Ref
from isola.model.storage import Volume
from isola.operations import Operation
from isola.state import Intent

BEGUN = "instance"
"""The kind of the intent of an instance without a record: it is being created, or its files are being removed."""
_LONGEST = 60.0
log = logging.getLogger(__name__)


def keep_in_mind(context: Context, half: HalfMade) -> None:
    """Retry the undo with increasing pauses, until it succeeds or the daemon ends."""
    context.half_made[half.id] = half
    if context.undoing is None or context.undoing.done():
        context.undoing = asyncio.get_running_loop().create_task(_by_and_by(context), name="undo incomplete creations")


def intent_of(half: HalfMade) -> Intent:
    """The intent by which the next daemon removes it."""
    return Intent(half.id, BEGUN, {"pool": half.pool, "name": half.ref.name, "project": half.ref.project}, half.layers)


def remove_soon(context: Context, half: HalfMade) -> None:
    """Remove it in the background, beginning at once. Its intent has been recorded."""
    task = asyncio.get_running_loop().create_task(_soon(context, half), name=f"remove files of {half.id}")
    context.releasing.add(task)
    task.add_done_callback(context.releasing.discard)


async def _soon(context: Context, half: HalfMade) -> None:
    try:
        await _undo(context, half)
        if half.layers:
            await context.images.collect_garbage()
    except IsolaError as error:
        log.warning("The files of the former instance %s cannot be removed yet: %s", half.id, error)
        keep_in_mind(context, half)


async def undo_begun(context: Context) -> None:
    """At the start of the daemon: remove the remains of creations that were interrupted before their commit."""
    for intent in list(context.intents.of_kind(BEGUN)):
        facts = intent.facts
        half = HalfMade(
            intent.id,
            Ref(facts.get("project", DEFAULT_PROJECT), facts.get("name", "")),
            facts.get("pool", ""),
            intent.digests,
        )
        try:
            await _undo(context, half)
        except IsolaError as error:
            log.error("The remains of the incomplete instance %s cannot be removed yet: %s", intent.id, error)
            keep_in_mind(context, half)


async def undo_of_name(context: Context, ref: Ref) -> None:
    """Before a creation: try to remove the remains of an earlier one under the same name."""
    for half in [half for half in context.half_made.values() if half.ref == ref]:
        with suppress(IsolaError):  # it is retried later, and does not conflict with the new instance
            await _undo(context, half)


async def _by_and_by(context: Context) -> None:
    pause = 1.0
    while context.half_made:
        await context.host.clock.sleep(pause)
        pause = min(pause * 2, _LONGEST)
        for half in list(context.half_made.values()):
            try:
                await _undo(context, half)
            except IsolaError as error:
                log.warning("The remains of the incomplete instance %s cannot be removed yet: %s", half.id, error)


async def _undo(context: Context, half: HalfMade) -> None:
    operation = context.operations.start(
        "Removing files of an instance", lambda op: _work(context, op, half), locks=[f"incomplete/{half.id}"]
    )
    await context.operations.finish(operation)


async def _work(context: Context, op: Operation, half: HalfMade) -> None:
    """Can be repeated."""

    await op.commit()
    if context.by_id(half.id) is None:
        await context.devices.unregister(op, map(_without_addresses, half.plugs))
        if half.pool in {known.name for known in context.pools}:
            await forget_volume(context, op, Volume(id=half.id, pool=half.pool))
            await forget_snapshots(context, half.id)
            await context.layers.drop_unused(half.layers)
        await remove_logs(context, half.id)
        await give_back(context, half.id, *half.bases)
    await context.intents.end(half.id)
    context.half_made.pop(half.id, None)


def _without_addresses(plug: Plug) -> Plug:
    """Its addresses were released when the creation failed and may be in use again, so their leases are kept."""
    return dataclasses.replace(plug, state=plug.state.with_facts(ipv4="", ipv6=""))
