"""The output and input of a first process over an operation's WebSockets: an addition to the API."""

from __future__ import annotations

import asyncio

from isola.doors import Services
from isola.doors.rest.carrying import PIPES, TERMINAL
from isola.doors.rest.connections import Channel, Channels, Connections
from isola.doors.rest.control import control_message, size_of
from isola.errors import IsolaError
from isola.model.caller import Caller
from isola.model.exec import ConsoleRequest
from isola.model.instance import Instance
from isola.model.signals import signal_number
from isola.operations import Operation
from isola.runtimes import Attachment
from isola.runtimes import Channel as Output


async def attach_program(
    services: Services, connections: Connections, instance: Instance, *, ahead: bool, stdin: bool, caller: Caller
) -> Operation:
    """To its run, or with ``ahead`` to the next one if it does not run: nothing of that is missed.

    Raises NotFound, WrongState.
    """
    attachment = await services.instances.attach(instance.ref, ahead=ahead)
    terminal = instance.start.terminal or instance.start.system
    channels = Channels(services.host.clock, TERMINAL if terminal else PIPES)

    async def work(op: Operation) -> None:
        try:
            data = {name: await channels.get(name) for name in channels.secrets if name != "control"}
            await _carry(services, instance, channels, data, attachment, caller)
        finally:
            attachment.close(keep_input=not stdin)
            channels.release()

    try:
        operation = services.operations.start(
            "Attaching to the program",
            work,
            resources=[instance.entity],
            caller=caller,
            kind="websocket",
            metadata={"fds": channels.secrets, "interactive": terminal},
        )
    except BaseException:
        attachment.close(keep_input=True)
        raise
    connections[operation] = channels
    return operation


async def _carry(  # noqa: PLR0917 - the parts of one attachment
    services: Services,
    instance: Instance,
    channels: Channels,
    data: dict[str, Channel],
    attachment: Attachment,
    caller: Caller,
) -> None:
    """Until the run ends, or the client closes all channels of output."""
    terminal = "1" not in data
    sinks = {Output.STDOUT: data["0" if terminal else "1"], Output.STDERR: data["0" if terminal else "2"]}
    output = asyncio.create_task(_printed(attachment, sinks))
    typed = asyncio.create_task(_typed(data["0"], attachment))
    steered = asyncio.create_task(_steered(services, instance, channels, caller))
    leaving = asyncio.create_task(_gone(typed if terminal else None, () if terminal else (data["1"], data["2"])))
    try:
        await asyncio.wait([output, leaving], return_when=asyncio.FIRST_COMPLETED)
        if output.done():
            output.result()
            for channel in dict.fromkeys(sinks.values()):
                await channel.send("")
                await channel.close()
    finally:
        for task in (output, typed, steered, leaving):
            task.cancel()


async def _printed(attachment: Attachment, sinks: dict[Output, Channel]) -> None:
    while (block := await attachment.read()) is not None:
        channel, written = block
        await sinks[channel].send(written)


async def _typed(channel: Channel, attachment: Attachment) -> None:
    """Until the client has closed the channel; an empty message is EOF."""
    while (message := await channel.receive()) is not None:
        if message:
            await attachment.write(message.encode() if isinstance(message, str) else message)
        else:
            attachment.end_input()


async def _gone(typed: asyncio.Task[None] | None, outputs: tuple[Channel, ...]) -> None:
    if typed is not None:
        await asyncio.wait([typed])
    for channel in outputs:
        while await channel.receive() is not None:
            pass


async def _steered(services: Services, instance: Instance, channels: Channels, caller: Caller) -> None:
    """Window sizes and signals."""
    channel = await channels.get("control", None)
    while (message := await channel.receive()) is not None:
        try:
            control = control_message(message)
            if control.get("command") == "window-resize":
                console = services.instances.console(instance.ref, ConsoleRequest(force=True), caller=caller)
                await console.resize(*size_of(control))
            elif control.get("command") == "signal":
                await services.instances.runs.signal(
                    instance.ref, signal_number(control.get("signal", "")), caller=caller
                )
        except (IsolaError, ValueError, TypeError, AttributeError):
            continue  # malformed, or the run has not begun or has ended
