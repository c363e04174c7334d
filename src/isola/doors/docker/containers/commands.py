"""Runs commands inside containers, with their streams on a connection or without them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from isola.doors.docker.containers.streams import STDERR, STDOUT, DetachKeys, HijackedWire, feed
from isola.doors.docker.request import Request
from isola.host.sockets import Stream
from isola.instances.commands import Command
from isola.instances.output import Output


async def run_detached(command: Command) -> None:
    """Returns when it has started; what it writes is discarded. Raises WrongState, InvalidInput."""
    await command.detach()


async def run_attached(
    request: Request, command: Command, connect: Callable[[], Awaitable[HijackedWire]], keys: DetachKeys
) -> web.StreamResponse:
    """Until it has ended, or the client has detached; a client that has gone does not end it."""
    await command.start()
    try:
        wire = await connect()
        with request.lasts():
            await _carry(command, wire, keys)
    finally:
        if command.running:
            _leave(request, command)
        else:
            await command.close()
    return wire.response


async def _carry(command: Command, wire: HijackedWire, keys: DetachKeys) -> None:
    outputs = [Output(command.stdout, lambda data: wire.write(STDOUT, data))]
    if (errors := command.stderr) is not None:
        outputs.append(Output(errors, lambda data: wire.write(STDERR, data)))
    ended = asyncio.ensure_future(command.wait())
    broken = asyncio.ensure_future(_broken(outputs))
    typed = asyncio.ensure_future(_typed(command, wire, keys))
    gone = asyncio.ensure_future(wire.gone())
    try:
        await asyncio.wait([ended, typed, gone, broken], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            for output in outputs:
                await output.finish()
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
