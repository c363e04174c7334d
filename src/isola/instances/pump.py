"""Bytes from a program to a client and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from isola.host.sockets import Stream
from isola.operations import Channel

_IDLE_SECONDS = 0.1
_WINDOW_LIMIT = 65535
RECORD_LIMIT = 16 * 2**20
"""Bytes kept of each stream of a command whose output is recorded."""


class Output:
    """Carries all a program writes to ``sink``, as a task of its own."""

    def __init__(self, stream: Stream, sink: Callable[[bytes], Awaitable[object]]) -> None:
        self._stream = stream
        self._sink = sink
        self._blocks = 0
        self._reading = False
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while data := await self._read():
            self._blocks += 1
            await self._sink(data)

    async def _read(self) -> bytes:
        self._reading = True
        data = await self._stream.read()
        self._reading = False
        return data

    async def finish(self) -> None:
        """The program has ended: wait for the rest of its output.

        A grandchild in the background may hold the pipe open for ever: once nothing came for a moment, that is the
        end. A slow client is waited for.
        """
        seen = -1
        while not self.task.done() and not (self._reading and seen == self._blocks):
            seen = self._blocks
            await asyncio.wait([self.task], timeout=_IDLE_SECONDS)
        self.stop()

    def stop(self) -> None:
        """Carry nothing more."""
        self.task.cancel()


async def from_channel(channel: Channel, stream: Stream, *, close: bool = False) -> bool:
    """All a client sends; an empty text, or its going away, is the end of the program's input.

    Returns whether the client has gone away.
    """
    while message := await channel.receive():
        await stream.write(message.encode() if isinstance(message, str) else message)
    if close:
        stream.close()
    return message is None


def control_message(message: bytes | str) -> Mapping[str, Any]:
    """A control message without what is null: Go clients send that for absent. Raises ValueError for anything else."""
    try:
        found = json.loads(message, object_hook=_without_nulls)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict) or not isinstance(found.get("args", {}), dict):
        raise ValueError("an object is expected")
    return found


def _without_nulls(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def size_of(message: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height a client's window has. Raises ValueError."""
    arguments = message.get("args", {})
    size = arguments.get("width"), arguments.get("height")
    if not all(isinstance(value, int | str) and str(value).isdecimal() and len(str(value)) < 6 for value in size):
        raise ValueError("a width and a height are expected")
    width, height = (int(value) for value in size)
    if max(width, height) > _WINDOW_LIMIT:
        raise ValueError("no window is that large")
    return width, height


async def gone(channel: Channel) -> None:
    """Wait until the client has left a channel; what it still says is passed over."""
    while await channel.receive() is not None:
        pass


async def end_of_output(channel: Channel) -> None:
    """The empty text that says there is nothing more, and good-bye."""
    await channel.send("")
    await channel.close()


class Record:
    """Keeps what a program writes, up to RECORD_LIMIT bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.cut = False
        """Whether more was written than is kept."""

    async def take(self, data: bytes) -> None:
        """The next block."""
        room = RECORD_LIMIT - len(self.data)
        self.cut = self.cut or len(data) > room
        self.data += data[:room]
