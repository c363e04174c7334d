"""Screens of instances: operations whose channel ``0`` is connected once for each connection of a viewer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from isola.doors.rest.connections import CONNECT_SECONDS, Channel, Channels
from isola.errors import IsolaError, TimedOut
from isola.instances.display import Display
from isola.instances.output import Output

DATA = "0"
Writer = Callable[[bytes], Awaitable[object]]
_MOST_CONNECTIONS = 64
"""At the same time; viewers open about ten."""


async def carry_display(channels: Channels, display: Display) -> None:
    """Until the client closes ``control``, the instance stops, or another client takes over.

    A client that has not connected ``control`` leaves by closing all its connections. Raises TimedOut if none comes.
    """
    viewer = _Viewer(channels, display)
    waits = [
        asyncio.ensure_future(viewer.serve()),
        asyncio.ensure_future(_left(channels)),
        asyncio.ensure_future(display.over.wait()),
    ]
    try:
        await _begun(channels)
        display.open()
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await viewer.close()


async def _begun(channels: Channels) -> None:
    first = [asyncio.ensure_future(channels.get(name, None)) for name in (DATA, "control")]
    try:
        done, _ = await asyncio.wait(first, timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in first:
            each.cancel()
    if not done:
        raise TimedOut(f"No channel was connected within {CONNECT_SECONDS} seconds", remedy="connect control first")


async def _left(channels: Channels) -> None:
    control = await channels.get("control", None)
    while await control.receive() is not None:
        pass  # it carries nothing


class _Viewer:
    """The connections of one client."""

    def __init__(self, channels: Channels, display: Display) -> None:
        self._channels = channels
        self._display = display
        self._carried: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(_MOST_CONNECTIONS)

    async def serve(self) -> None:
        """Returns when the last connection of a client without ``control`` has ended."""
        idle = asyncio.Event()
        while True:
            coming = asyncio.ensure_future(self._channels.next())
            leaving = asyncio.ensure_future(idle.wait())
            try:
                await asyncio.wait([coming, leaving], return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
            finally:
                leaving.cancel()
                if not coming.done():
                    coming.cancel()
            await self._free.acquire()
            idle.clear()
            task = asyncio.create_task(self._carry(coming.result()))
            self._carried.add(task)
            task.add_done_callback(lambda done: self._ended(done, idle))

    async def close(self) -> None:
        """End all connections."""
        for task in list(self._carried):
            task.cancel()
        if self._carried:
            await asyncio.wait(self._carried)

    def _ended(self, task: asyncio.Task[None], idle: asyncio.Event) -> None:
        self._carried.discard(task)
        self._free.release()
        if not self._carried and not self._channels.connected("control"):
            idle.set()

    async def _carry(self, channel: Channel) -> None:
        try:
            with suppress(IsolaError):  # it has just stopped
                stream = await self._display.connect()
                try:
                    await _between(channel, Output(stream, channel.send), stream.write)
                finally:
                    stream.close()
        finally:
            await channel.close()


async def _between(channel: Channel, output: Output, write: Writer) -> None:
    typed = asyncio.ensure_future(_to(channel, write))
    try:
        await asyncio.wait([output.task, typed], return_when=asyncio.FIRST_COMPLETED)
    finally:
        output.stop()
        typed.cancel()


async def _to(channel: Channel, write: Writer) -> None:
    """Until the client closes; an empty message is EOF."""
    while message := await channel.receive():
        await write(message.encode() if isinstance(message, str) else message)
