"""Freeze an instance while its root is copied, so that the copy is consistent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isola.errors import HostFailure, IsolaError, Unsupported
from isola.host.cancellation import finish
from isola.instances.context import Context, Live
from isola.instances.phases import RunState
from isola.instances.starting_again import start_later
from isola.instances.stop import freeze, thaw
from isola.model.instance import Instance
from isola.operations import Operation
from isola.runtimes import Capability
from isola.state import Intent

HELD = "still"
"""The kind of the intent of an instance that is frozen by the daemon itself, not by its user."""
_LONGEST = 60.0
log = logging.getLogger(__name__)


@asynccontextmanager
async def quiesced(context: Context, op: Operation, instance: Instance) -> AsyncIterator[None]:
    """The instance is frozen within this context. A stopped or already frozen one is not changed.

    The intent is on disk before the freeze: after a kill of the daemon the next one thaws the instance.
    Raises Unsupported if the runtime cannot freeze and the pool has no instant copies.
    """
    live = context.live.get(instance.id)
    if live is None or live.state is not RunState.RUNNING or not _can_freeze(context, instance):
        yield
        return
    intent = await announce(context, op, instance, live)
    try:
        await op.effect(f"freeze {instance.name}", lambda: freeze(live), undo=lambda: _let_go(live))
        yield
    finally:  # before other undo steps, which may take long
        await finish(asyncio.ensure_future(_let_go(live)))
    await context.intents.end(intent.id)


async def announce(context: Context, op: Operation, instance: Instance, live: Live, *, again: bool = False) -> Intent:
    """Write that it is going to stand still, so that the next daemon lets it go on. The caller ends the intent.

    ``again``: if it has ended, the next daemon starts it.
    """
    facts = {"instance": instance.id} | ({"again": "1"} if again else {})
    intent = Intent(f"{HELD}-{context.host.clock.token(8)}", HELD, facts)

    async def withdraw() -> None:
        if live.state is RunState.FROZEN:
            raise HostFailure(f"Instance {instance.name!r} is still frozen", remedy="unfreeze it")
        try:
            await context.intents.end(intent.id)
        except IsolaError:
            _end_later(context, live, intent)
            raise

    await op.effect(f"announce freeze of {instance.name}", lambda: context.intents.begin(intent), undo=withdraw)
    return intent


def _end_later(context: Context, live: Live, intent: Intent) -> None:
    task = asyncio.get_running_loop().create_task(_end(context, live, intent), name=f"end {intent.id}")
    context.releasing.add(task)
    task.add_done_callback(context.releasing.discard)


async def _end(context: Context, live: Live, intent: Intent) -> None:
    """Remove the intent; otherwise the next daemon would thaw an instance that its user has frozen meanwhile."""
    pause = 1.0
    while True:
        await context.host.clock.sleep(pause)
        pause = min(pause * 2, _LONGEST)
        if live.state is not RunState.FROZEN:
            try:
                await context.intents.end(intent.id)
                return
            except IsolaError as error:
                log.warning("Cannot forget that instance %s was frozen: %s", intent.facts["instance"], error)


async def thaw_left_frozen(context: Context) -> None:
    """At the start of the daemon: thaw instances that an earlier one had frozen when it was killed."""
    for intent in list(context.intents.of_kind(HELD)):
        live = context.live.get(intent.facts.get("instance", ""))
        try:
            if live is not None:
                await _let_go(live)
            elif intent.facts.get("again") and (instance := context.by_id(intent.facts["instance"])) is not None:
                start_later(context, instance)
            await context.intents.end(intent.id)
        except IsolaError as error:
            log.error("Instance %s stays frozen: %s", intent.facts.get("instance"), error)


def _can_freeze(context: Context, instance: Instance) -> bool:
    capabilities = context.runtime(instance).capabilities
    if capabilities.has(Capability.PAUSE):
        return True
    if not context.storage(instance).capabilities.instant_copies:
        lack = capabilities.lacks[Capability.PAUSE]
        raise Unsupported(
            f"Instance {instance.name!r} cannot be frozen while its root is copied",
            evidence=lack.reason,
            remedy="stop it first, or use a pool that copies in an instant",
        )
    return False


async def _let_go(live: Live) -> None:
    if live.state is RunState.FROZEN:
        await thaw(live)
