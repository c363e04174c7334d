"""Start an instance again that an operation has stopped."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from isola.errors import IsolaError
from isola.host.cancellation import finish
from isola.instances.clean_up import record_stopped
from isola.instances.context import Context, Restart
from isola.instances.restarts import schedule
from isola.instances.start import start
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation


def start_later(context: Context, instance: Instance) -> None:
    """Start it in the background, if it is stopped and has no fault."""
    if instance.id not in context.live and instance.id not in context.faults:
        context.restarts[instance.id] = Restart(0)
        schedule(context, instance.id)


async def start_again(context: Context, op: Operation, ref: Ref) -> None:
    """Raises what the start raises; a cancelled one is repeated in the background."""
    try:
        await start(context, op, ref)
    except asyncio.CancelledError:
        start_later(context, context.records.get(ref))
        raise
    except BaseException:
        id = context.records.get(ref).id
        if id not in context.live and id not in context.faults:
            with suppress(IsolaError):  # the record makes the next daemon start it
                await finish(asyncio.ensure_future(record_stopped(context, ref)))
        raise
