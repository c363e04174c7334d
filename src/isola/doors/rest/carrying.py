"""Streams of commands and consoles over an operation's WebSockets, as LXD's clients expect them.

Channels of a command are ``0``, ``1``, ``2`` and ``control``; with a terminal, and of a console, ``0`` and ``control``.
An empty text message is EOF.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence

from isola.doors.rest.connections import Channel, Channels
from isola.doors.rest.control import control_message, size_of
from isola.errors import IsolaError
from isola.host.sockets import Stream
from isola.instances.commands import Command
from isola.instances.console import Console
from isola.instances.output import Output
from isola.model.signals import signal_number

TERMINAL = ("0", "control")
PIPES = ("0", "1", "2", "control")
_KILL = 9


async def carry_terminal(channels: Channels, command: Command, channel: Channel) -> int:
    """Serve a started command with a terminal; returns its exit status."""
    return await _carry(
        command,
        inputs=[_typed(channels, command, channel), _control(channels, command)],
        outputs={channel: command.stdout},
    )


async def carry_pipes(channels: Channels, command: Command, data: Mapping[str, Channel]) -> int:
    """Serve a started command with three pipes; returns its exit status."""
    outputs = {data["1"]: command.stdout}
    if command.stderr is not None:
        outputs[data["2"]] = command.stderr
    status = await _carry(
        command,
        inputs=[
            _from_channel(data["0"], command.stdin, close=True),
            _control(channels, command),
            _abandoned(channels, command, list(outputs)),
        ],
        outputs=outputs,
    )
    await data["0"].close()
    return status


async def carry_console(channels: Channels, console: Console, channel: Channel, stream: Stream) -> None:
    """Serve a console until the client disconnects, the instance stops, or another client takes over."""
    output = Output(stream, channel.send)
    waits = [
        output.task,
        asyncio.ensure_future(_from_channel(channel, stream)),
        asyncio.ensure_future(_console_control(channels, console)),
        asyncio.ensure_future(console.over.wait()),
    ]
    try:
        # Either channel may be closed: LXD's clients detach by closing control.
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        output.stop()
        for wait in waits:
            wait.cancel()


async def _typed(channels: Channels, command: Command, channel: Channel) -> None:
    if not await _from_channel(channel, command.stdin):
        await _wait_closed(channel)
    await _abandoned(channels, command, [])


async def _abandoned(channels: Channels, command: Command, data: Sequence[Channel]) -> None:
    """Kill the command of a client that never connected control and has closed all its output channels."""
    await asyncio.gather(*(_wait_closed(channel) for channel in data))
    if not channels.connected("control"):
        await command.signal(_KILL)


async def _carry(
    command: Command, *, inputs: Sequence[Coroutine[object, object, object]], outputs: Mapping[Channel, Stream]
) -> int:
    """Serve until the command has ended and all its output is sent."""
    tasks = [asyncio.ensure_future(work) for work in inputs]
    carried = {channel: Output(stream, channel.send) for channel, stream in outputs.items()}
    try:
        status = await command.wait()
        for channel, output in carried.items():
            await output.finish()
            await channel.send("")
            await channel.close()
        return status
    finally:
        for output in carried.values():
            output.stop()
        for task in tasks:
            task.cancel()


async def _control(channels: Channels, command: Command) -> None:
    """Handle window sizes and signals; closing control kills the command."""
    channel = await channels.get("control", None)
    while (message := await channel.receive()) is not None:
        try:
            await _handle_control(command, message)
        except (IsolaError, ValueError, TypeError, AttributeError):
            continue  # a malformed control message is ignored
    await command.signal(_KILL)


async def _handle_control(command: Command, message: bytes | str) -> None:
    control = control_message(message)
    if control.get("command") == "window-resize":
        command.resize(*size_of(control))
    elif control.get("command") == "signal":
        await command.signal(signal_number(control.get("signal", "")))


async def _console_control(channels: Channels, console: Console) -> None:
    channel = await channels.get("control", None)
    while (message := await channel.receive()) is not None:
        try:
            control = control_message(message)
            if control.get("command") == "window-resize":
                await console.resize(*size_of(control))
        except (IsolaError, ValueError):
            continue  # a malformed control message is ignored


async def _from_channel(channel: Channel, stream: Stream, *, close: bool = False) -> bool:
    """Copy a client's data to the program; an empty message or a closed channel is EOF.

    Returns whether the client has closed the channel.
    """
    while message := await channel.receive():
        await stream.write(message.encode() if isinstance(message, str) else message)
    if close:
        stream.close()
    return message is None


async def _wait_closed(channel: Channel) -> None:
    """Wait until the client has closed a channel; what it still sends is ignored."""
    while await channel.receive() is not None:
        pass
