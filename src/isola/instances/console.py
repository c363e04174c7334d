"""Attach to an instance's console."""

from __future__ import annotations

import asyncio

from isola.errors import IsolaError, Unsupported, WrongState
from isola.host.sockets import Stream
from isola.instances.context import Context, Live
from isola.instances.pump import Output, control_message, from_channel, size_of
from isola.instances.stop import require_live
from isola.model.exec import ConsoleRequest
from isola.model.instance import Instance
from isola.operations import Channel, Operation

CHANNELS = ("0", "control")
_CONNECT_SECONDS = 30


def check(context: Context, name: str, request: ConsoleRequest) -> Instance:
    """Raises NotFound, WrongState (also when it is frozen, and in use and not forced), Unsupported."""
    instance = context.records.get(name)
    live = require_live(context, instance)
    if request.type != "console":
        raise Unsupported(f"A container has no {request.type[:20]!r} console", field="type", remedy="use type console")
    if live.frozen:
        raise WrongState(f"Instance {name!r} is frozen", remedy="unfreeze it first")
    if live.consoles and not request.force:
        raise WrongState(f"The console of {name!r} is in use", remedy="take it over by force")
    return instance


async def attach(context: Context, op: Operation, instance: Instance, request: ConsoleRequest) -> None:
    """Until the client goes, the instance ends or somebody else takes the console."""
    live = require_live(context, instance)
    channel = await op.channel("0", _CONNECT_SECONDS)
    runtime = context.runtime(instance)
    stream = await runtime.console(instance.id)
    context.tell("console", instance.name, type=request.type)
    try:
        if request.width and request.height:
            await runtime.resize_console(instance.id, request.width, request.height)
        await _alone(live, asyncio.ensure_future(_session(context, op, instance, channel, stream)))
    finally:
        stream.close()
        await channel.close()


async def _alone(live: Live, session: asyncio.Task[None]) -> None:
    for other in list(live.consoles):
        other.cancel()
    live.consoles.add(session)
    try:
        await asyncio.wait([session])
    finally:
        session.cancel()
        live.consoles.discard(session)


async def _session(context: Context, op: Operation, instance: Instance, channel: Channel, stream: Stream) -> None:
    output = Output(stream, channel.send)
    helpers = [
        asyncio.ensure_future(from_channel(channel, stream)),
        asyncio.ensure_future(_control(context, op, instance)),
    ]
    try:
        # Either channel may say good-bye: LXD clients detach by closing control.
        await asyncio.wait([output.task, *helpers], return_when=asyncio.FIRST_COMPLETED)
    finally:
        output.stop()
        for helper in helpers:
            helper.cancel()


async def _control(context: Context, op: Operation, instance: Instance) -> None:
    channel = await op.channel("control", None)
    while (message := await channel.receive()) is not None:
        try:
            told = control_message(message)
            if told.get("command") == "window-resize":
                await context.runtime(instance).resize_console(instance.id, *size_of(told))
        except (IsolaError, ValueError):
            continue  # a malformed control message is the client's own loss
