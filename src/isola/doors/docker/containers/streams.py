"""Connections that carry a program's streams: with frames that tell output from errors, raw with a terminal."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from aiohttp import WSMsgType, web

from isola.doors.docker.answers import HEADERS
from isola.doors.docker.request import Request
from isola.doors.http.takeover import TakenOver, take_over
from isola.errors import InvalidInput

RAW = "application/vnd.docker.raw-stream"
FRAMED = "application/vnd.docker.multiplexed-stream"
STDIN, STDOUT, STDERR = 0, 1, 2
_HEADER = struct.Struct(">BxxxI")
_LOOK_SECONDS = 5.0
_FRAMED_SINCE = (1, 42)
_MESSAGE = 1 << 20


class Wire(Protocol):
    """A client's connection after the response has begun."""

    @property
    def response(self) -> web.StreamResponse: ...

    async def read(self) -> bytes:
        """What the client has sent; empty at EOF."""

    async def write(self, channel: int, data: bytes) -> None:
        """Output of a stream. Raises ConnectionError after the client has closed."""

    async def gone(self) -> None:
        """Returns when the client does not read any more."""


class HijackedWire:
    """An upgraded connection."""

    def __init__(self, connection: TakenOver, *, framed: bool) -> None:
        self._connection = connection
        self._framed = framed

    @property
    def response(self) -> web.StreamResponse:
        return self._connection.response

    async def read(self) -> bytes:
        """Raw."""
        return await self._connection.read_some()

    async def write(self, channel: int, data: bytes) -> None:
        """With a header of eight bytes, if it is framed."""
        await self._connection.write(frame(channel, data) if self._framed else data)

    async def gone(self) -> None:
        """Looked at from time to time: there is no event for it after the client's EOF."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._connection.gone:
                return


class SocketWire:
    """A WebSocket: binary messages without frames."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._over = asyncio.Event()

    @property
    def response(self) -> web.StreamResponse:
        return self._socket

    async def read(self) -> bytes:
        """The next message that is not empty."""
        while (message := await self._socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data = message.data.encode() if isinstance(message.data, str) else bytes(message.data)
            if data:
                return data
        self._over.set()
        return b""

    async def write(self, channel: int, data: bytes) -> None:
        """As one message."""
        await self._socket.send_bytes(data)

    async def close(self) -> None:
        """Say that it is over, and wait for the client's answer."""
        await self._socket.close()

    async def gone(self) -> None:
        """When the client has closed the socket."""
        await self._over.wait()


def frame(channel: int, data: bytes) -> bytes:
    """The stream's number, the length, and the data."""
    return _HEADER.pack(channel, len(data)) + data


def line_frames(channel: int, data: bytes) -> bytes:
    """Each line in a frame of its own: clients take frames of logs for lines."""
    *whole, rest = data.split(b"\n")
    framed = b"".join([_HEADER.pack(channel, len(line) + 1) + line + b"\n" for line in whole])
    return framed + frame(channel, rest) if rest else framed


def content_type(request: Request, *, terminal: bool) -> str:
    """Older clients know one type only."""
    return RAW if terminal or request.version < _FRAMED_SINCE else FRAMED


async def hijack(request: Request, *, terminal: bool) -> HijackedWire:
    """``101 UPGRADED`` for clients that ask for an upgrade, 200 for others."""
    upgrade = request.http.headers.get("Upgrade", "").lower() == "tcp"
    connection = await take_over(
        request.http,
        "tcp",
        headers={**HEADERS, "Content-Type": content_type(request, terminal=terminal)},
        reason="UPGRADED" if upgrade else None,
        upgrade=upgrade,
        half_close=True,
    )
    await connection.head_read()
    return HijackedWire(connection, framed=not terminal)


async def open_socket(request: Request) -> SocketWire:
    """Accept a WebSocket."""
    if request.http.headers.get("Upgrade", "").lower() != "websocket":
        raise InvalidInput("websocket: the client is not using the websocket protocol")
    socket = web.WebSocketResponse(max_msg_size=_MESSAGE, compress=False, timeout=1.0)
    await socket.prepare(request.http)
    return SocketWire(socket)


async def feed(wire: Wire, keys: DetachKeys | None, write: Callable[[bytes], Awaitable[object]]) -> bool:
    """Pass the client's input on; returns whether it has typed the keys to detach (False at EOF)."""
    while data := await wire.read():
        if keys is None:
            await write(data)
            continue
        passed, detached = keys.look(data)
        if passed:
            await write(passed)
        if detached:
            return True
    return False


class DetachKeys:
    """A sequence of keys that detaches a client: ``ctrl-p,ctrl-q``."""

    def __init__(self, text: str) -> None:
        """Raises InvalidInput."""
        self._keys = b"".join(_key(name, text) for name in text.split(",")) if text else b"\x10\x11"
        self._seen = 0

    def look(self, data: bytes) -> tuple[bytes, bool]:
        """What is input, and whether the sequence is complete. A beginning of it is held back until it is decided."""
        passed = bytearray()
        for at in range(len(data)):
            if data[at] == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._seen]
            self._seen = 1 if data[at] == self._keys[0] else 0
            if not self._seen:
                passed.append(data[at])
        return bytes(passed), False


def _key(name: str, text: str) -> bytes:
    special = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}
    if len(name) == 1 and name.isascii():
        return name.encode()
    letter = name.removeprefix("ctrl-")
    if letter != name and len(letter) == 1:
        if letter in special:
            return bytes([special[letter]])
        if "a" <= letter <= "z":
            return bytes([ord(letter) - 96])
    raise InvalidInput(f"Invalid escape keys ({text[:80]}) provided", field="detachKeys")


async def first_of(*works: Awaitable[object]) -> None:
    """Until one of them ends; the others are cancelled. Raises what the first one raised, but not ConnectionError."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        with suppress(ConnectionError):
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
