"""Stop an instance with what it has in memory."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress

from isola.errors import InvalidInput
from isola.instances.clean_up import clean_up, mark_restarting
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.phases import RunState
from isola.instances.quiesce import announce
from isola.instances.running import require_live
from isola.instances.saved import keep
from isola.instances.stop import give_back, thaw
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation
from isola.runtimes import Capability
from isola.settings import boolean

STATEFUL = "migration.stateful"
_CHECKED = 30.0
"""Seconds in which a check of its health may end by itself."""
_ENDS = 10.0
"""Seconds in which the end of a saved run is noticed; after that its remains are killed."""


def require_savable(context: Context, instance: Instance) -> None:
    """Raises Unsupported, InvalidInput."""
    context.runtime(instance).capabilities.require(Capability.CHECKPOINT)
    if not boolean(expanded(context, instance)[0].get(STATEFUL) or "true"):
        raise InvalidInput(
            f"{STATEFUL} forbids to save what instance {instance.name!r} has in memory",
            field="stateful",
            remedy=f"unset {STATEFUL}",
        )


def require_stoppable(context: Context, instance: Instance) -> None:
    """The same for a stop. Raises Unsupported, InvalidInput."""
    require_savable(context, instance)
    if instance.ephemeral:
        raise InvalidInput(
            "An ephemeral instance is deleted when it stops", field="stateful", remedy="make it permanent first"
        )


async def stop_saving(context: Context, op: Operation, ref: Ref, *, again: bool = False) -> None:
    """Stop it, and keep its memory and processes for the next start. Raises WrongState, HostFailure, Unsupported.

    After a failure it runs as before, or has ended like a killed one, if its runtime could not continue it.
    With ``again`` the next start of the daemon starts it again.
    """
    instance = context.records.get(ref)
    if not again:
        require_stoppable(context, instance)
    live = require_live(context, instance)
    live.again = again
    checks = ExitStack()
    try:
        with op.step("Save state"):
            with suppress(TimeoutError):
                await asyncio.wait_for(live.checking.acquire(), _CHECKED)
                checks.callback(live.checking.release)
            if live.state is RunState.FROZEN:
                await thaw(live)
            if live.state is RunState.RUNNING:
                live.enter(RunState.STOPPING)
            # Its runtime may let it stand still while it saves it.
            intent = await announce(context, op, instance, live, again=again)
            await keep(context, op, instance, live.guest)
            if again:
                await op.effect(
                    f"mark {ref.name} as restarting",
                    lambda: mark_restarting(context, instance.id, 1),
                    undo=lambda: mark_restarting(context, instance.id, 0),
                )
            await context.intents.end(intent.id)
            with suppress(TimeoutError):
                await asyncio.wait_for(live.ended.wait(), _ENDS)
        await clean_up(context, op, instance, again=again)
    except BaseException:
        if again and await context.runtime(instance).find(instance.id) is not None:
            live.again = False
        raise
    finally:
        checks.close()
        give_back(context, instance, live)
    context.tell("stopped", ref, caller=op.caller, stateful=True)
