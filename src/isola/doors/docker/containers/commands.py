"""Runs commands inside containers, with their streams on a connection or without them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from isola.doors.docker.containers.streams import STDERR, STDOUT, DetachKeys, HijackedWire, feed
from isola.doors.docker.containers.wording import may_be_engines, of_command
from isola.doors.docker.request import Request
from isola.errors import HostFailure, InvalidInput, IsolaError, WrongState
from isola.host.sockets import Stream
from isola.instances.commands import Command
from isola.instances.output import Output

_AT_ONCE = 0.03
"""Seconds in which an engine finds that it cannot execute a command."""


async def run_detached(command: Command) -> None:
    """Returns when it has started; what it writes is discarded. Raises WrongState, InvalidInput."""
    program = command.request.command[0]
    try:
        await command.detach()
    except IsolaError as error:
        raise of_command(program, error) from None
    await command.number()  # waits until it is there
    with suppress(TimeoutError, IsolaError):
        async with asyncio.timeout(_AT_ONCE):
            await command.wait()
    if command.refusal:
        raise of_command(program, command.refusal)


async def run_attached(
    request: Request, command: Command, connect: Callable[[], Awaitable[HijackedWire]], keys: DetachKeys
) -> web.StreamResponse:
    """Until it has ended, or the client has detached; a client that has gone does not end it.

    The response comes before the command: what clients read together with its headers, some of them lose. Errors of
    the start therefore are output, as in Docker.
    """
    wire = await connect()
    try:
        with request.lasts():
            try:
                await command.start()
                await _carry(command, wire, keys)
            except (HostFailure, InvalidInput, WrongState) as error:
                await wire.write(STDOUT, f"{of_command(command.request.command[0], error)}\r\n".encode())
    finally:
        if command.running:
            _leave(request, command)
        else:
            await command.close()
    return wire.response


class _Sink:
    """Output for a client, without errors of an engine that could not execute the command."""

    def __init__(self, wire: HijackedWire, channel: int) -> None:
        self._wire = wire
        self._channel = channel
        self._begun = False
        self.held = b""

    async def write(self, data: bytes) -> None:
        if not self._begun and may_be_engines(data):
            self.held = data
        else:
            await self._wire.write(self._channel, self.held + data)
            self.held = b""
        self._begun = True

    async def finish(self, command: Command) -> None:
        """After its end. Raises InvalidInput if it was not executed."""
        if command.refusal:
            raise InvalidInput(f"{of_command(command.request.command[0], command.refusal)}")
        if self.held:
            await self._wire.write(self._channel, self.held)


async def _carry(command: Command, wire: HijackedWire, keys: DetachKeys) -> None:
    """Raises InvalidInput if the command was not executed."""
    streams = {STDOUT: command.stdout, STDERR: command.stderr}
    sinks = {channel: _Sink(wire, channel) for channel, stream in streams.items() if stream is not None}
    outputs = [Output(stream, sinks[channel].write) for channel, stream in streams.items() if stream is not None]
    ended = asyncio.ensure_future(command.wait())
    broken = asyncio.ensure_future(_broken(outputs))
    typed = asyncio.ensure_future(_typed(command, wire, keys))
    gone = asyncio.ensure_future(wire.gone())
    try:
        await asyncio.wait([ended, typed, gone, broken], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            for output in outputs:
                await output.finish()
            ended.result()
            for sink in sinks.values():
                await sink.finish(command)
    finally:
        tasks = (ended, typed, gone, broken, *(output.task for output in outputs))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _broken(outputs: list[Output]) -> None:
    """Ends when the client cannot be written to."""
    await asyncio.gather(*(asyncio.shield(output.task) for output in outputs), return_exceptions=True)
    if not any(output.task.cancelled() or output.task.exception() for output in outputs):
        await asyncio.get_running_loop().create_future()


async def _typed(command: Command, wire: HijackedWire, keys: DetachKeys) -> None:
    """Ends when the client detaches."""
    terminal = command.request.interactive
    if not command.notes.get("AttachStdin"):
        if not terminal:
            command.stdin.close()
        await asyncio.get_running_loop().create_future()
    if await feed(wire, keys if terminal else None, command.stdin.write):
        return
    if not terminal:
        command.stdin.close()
    await asyncio.get_running_loop().create_future()


def _leave(request: Request, command: Command) -> None:
    """Let it go on without a client."""
    task = asyncio.ensure_future(_finish(command))
    request.lasting.add(task)
    task.add_done_callback(request.lasting.discard)


async def _finish(command: Command) -> None:
    """Discard its output until it has ended."""
    drains = [asyncio.ensure_future(_drain(stream)) for stream in (command.stdout, command.stderr) if stream]
    try:
        await command.wait()
    finally:
        for each in drains:
            each.cancel()
        await command.close()


async def _drain(stream: Stream) -> None:
    while await stream.read():
        pass
