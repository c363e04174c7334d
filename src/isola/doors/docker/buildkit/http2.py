"""HTTP/2 on a connection that was taken over, as its server or, for sessions, as its client: RFC 9113 as gRPC uses it.

What arrives is bounded by windows: a stream that nothing reads is not sent more than ``_WINDOW`` bytes.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Protocol

from isola.doors.docker.buildkit.hpack import Decoder, Field, encode

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _UPDATE, _CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY, _ACKNOWLEDGED = 1, 4, 8, 32, 1
_INITIAL_WINDOW, _FRAME_SIZE, _MOST_STREAMS = 4, 5, 3
_LARGEST_FRAME = 16384
_WINDOW = 256 << 10
"""Bytes that a stream may be ahead of its reader."""
_FIRST_WINDOW = 65535
_WIDEN, _WIDEN_ALL = _WINDOW // 4, _FIRST_WINDOW // 4
"""Bytes after which the window of the peer is updated."""
_WIDEST = 2**31 - 1
_HEADER_BYTES = 256 << 10
_STREAMS = 64
"""Calls at the same time, each of which may hold a message in memory."""
_CANCEL, _REFUSED = 8, 7
_FLOOD = 10_000
"""Frames in a row that carry nothing; no client has a use for so many."""
_ANSWERS = 4
"""Of these for each frame that is sent."""
_MOST_ANSWERS = 100_000
"""That may still come for frames that were sent."""


class Broken(ConnectionError):
    """The other side has closed, has reset the stream, or does not speak the protocol."""


class Link(Protocol):
    """The bytes below."""

    async def read(self, size: int) -> bytes:
        """Exactly so many. Raises EOFError, ConnectionError."""
        ...

    async def write(self, data: bytes) -> None:
        """Waits while the peer is slow. Raises ConnectionError."""
        ...


class Stream:
    """One call: headers, data both ways, and headers at the end."""

    def __init__(self, connection: Connection, id: int, headers: list[Field]) -> None:
        self.id = id
        self.headers = headers
        self.trailers: list[Field] = []
        self.window = connection.their_window
        self.failed: str | None = None
        self._connection = connection
        self.ended = False
        """Nothing more will arrive."""
        self._taken = 0
        self._blocks: deque[bytes] = deque()
        self._news = asyncio.Event()

    def header(self, name: str) -> str:
        """The first of that name in the headers or at the end; empty if there is none."""
        wanted = name.encode()
        found = (value for key, value in (*self.trailers, *self.headers) if key == wanted)
        return next(found, b"").decode("utf-8", "replace")

    async def read(self) -> bytes:
        """What has arrived next; empty at the end. Raises Broken."""
        while not self._blocks:
            if self.ended:
                return b""
            if self.failed is not None:
                raise Broken(self.failed)
            self._news.clear()
            await self._news.wait()
        block = self._blocks.popleft()
        self._taken += len(block)
        if self._taken >= _WIDEN and not self.ended:
            await self._connection.widen(self.id, self._taken)
            self._taken = 0
        return block

    async def send(self, data: bytes) -> None:
        """Waits for the reader. Raises Broken."""
        for start in range(0, len(data), _LARGEST_FRAME):
            block = data[start : start + _LARGEST_FRAME]
            while block:
                size = await self._connection.room(self, len(block))
                await self._connection.frame(_DATA, 0, self.id, block[:size])
                block = block[size:]

    async def send_headers(self, fields: Iterable[tuple[str, str]], *, end: bool = False) -> None:
        """At the beginning, or with ``end`` the last of all."""
        await self._connection.frame(_HEADERS, _END_HEADERS | (_END_STREAM if end else 0), self.id, encode(fields))

    async def finish(self) -> None:
        """Nothing more is sent."""
        await self._connection.frame(_DATA, _END_STREAM, self.id, b"")

    async def cancel(self) -> None:
        """Tell the peer that nothing reads or writes any more."""
        with suppress(ConnectionError):
            await self._connection.frame(_RESET, 0, self.id, struct.pack(">I", _CANCEL))

    def arrived(self, block: bytes, *, end: bool) -> None:
        """From the connection."""
        if block:
            self._blocks.append(block)
        self.ended = self.ended or end
        self._news.set()

    def fail(self, why: str) -> None:
        """From the connection: nothing more will arrive."""
        self.failed = self.failed or why
        self._news.set()


class Connection:
    """All streams of one connection. ``serve`` answers those that the peer opens; a client has none."""

    def __init__(
        self, link: Link, serve: Callable[[Stream], Awaitable[None]] | None = None, *, streams: int = _STREAMS
    ) -> None:
        self.their_window = _FIRST_WINDOW
        self.closed = asyncio.Event()
        self._begun = asyncio.Event()
        self._link = link
        self._serve = serve
        self._most = streams
        self._decoder = Decoder()
        self._streams: dict[int, Stream] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._window = _FIRST_WINDOW
        self._room = asyncio.Event()
        self._writing = asyncio.Lock()
        self._taken = 0
        self._next, self._last = 1, 0
        self._idle = 0

    async def run(self) -> None:
        """Until either side closes. Raises nothing but CancelledError; all calls have ended then."""
        why = "the client has closed the connection"
        try:
            await self._begin()
            self._begun.set()
            while True:
                await self._take()
        except (EOFError, ConnectionError):
            pass
        except ValueError as error:
            why = str(error)
            with suppress(ConnectionError):
                await self.frame(_GOAWAY, 0, 0, struct.pack(">II", self._last, 1) + why.encode())
        finally:
            self.closed.set()
            self._begun.set()
            self._room.set()
            for stream in self._streams.values():
                stream.fail(why)
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def open(self, fields: Iterable[tuple[str, str]]) -> Stream:
        """A call to the peer. Raises Broken."""
        await self._begun.wait()
        if self.closed.is_set():
            raise Broken("the client has closed its session")
        stream = Stream(self, self._next, [])
        self._next += 2
        self._streams[stream.id] = stream
        await stream.send_headers(fields)
        return stream

    def forget(self, stream: Stream) -> None:
        """A call that has ended."""
        self._streams.pop(stream.id, None)

    async def frame(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        """Send one. Raises ConnectionError."""
        async with self._writing:
            if len(payload) > _LARGEST_FRAME:  # of headers: the first part, and what continues it
                await self._long_headers(kind, flags, id, payload)
            else:
                await self._link.write(_frame(kind, flags, id, payload))
        if kind == _DATA and payload:  # which the peer answers with updates of both windows, and pings
            self._idle = max(self._idle - _ANSWERS, -_MOST_ANSWERS)

    async def _long_headers(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        parts = [payload[at : at + _LARGEST_FRAME] for at in range(0, len(payload), _LARGEST_FRAME)]
        await self._link.write(_frame(kind, flags & ~_END_HEADERS, id, parts[0]))
        for part in parts[1:-1]:
            await self._link.write(_frame(_CONTINUATION, 0, id, part))
        await self._link.write(_frame(_CONTINUATION, _END_HEADERS, id, parts[-1]))

    async def room(self, stream: Stream, wanted: int) -> int:
        """Bytes that may be sent now, of both windows. Raises Broken."""
        while True:
            if stream.failed is not None or self.closed.is_set():
                raise Broken(stream.failed or "the client has closed the connection")
            size = min(wanted, self._window, stream.window)
            if size > 0:
                self._window -= size
                stream.window -= size
                return size
            self._room.clear()
            await self._room.wait()

    async def widen(self, id: int, size: int) -> None:
        """A reader has taken this much."""
        with suppress(ConnectionError):
            await self.frame(_UPDATE, 0, id, struct.pack(">I", size))

    async def _begin(self) -> None:
        if self._serve is None:
            await self._link.write(_PREFACE)
        elif await self._link.read(len(_PREFACE)) != _PREFACE:
            raise ValueError("this is not HTTP/2")
        own = struct.pack(">HIHI", _MOST_STREAMS, self._most, _INITIAL_WINDOW, _WINDOW)
        await self.frame(_SETTINGS, 0, 0, own)

    async def _take(self) -> None:
        length, kind, flags, id = _head(await self._link.read(9))
        if length > _LARGEST_FRAME:
            raise ValueError("a frame is too long")
        payload = await self._link.read(length)
        self._idle = min(self._idle, 0) if payload and kind in (_DATA, _HEADERS) else self._idle + 1
        if self._idle > _FLOOD:
            raise ValueError("too many frames that carry nothing")
        if kind == _DATA:
            await self._data(id, flags, payload)
        elif kind == _HEADERS:
            await self._headers(id, flags, payload)
        elif kind == _SETTINGS and not flags & _ACKNOWLEDGED:
            self._settings(payload)
            await self.frame(_SETTINGS, _ACKNOWLEDGED, 0, b"")
        elif kind == _PING and not flags & _ACKNOWLEDGED:
            await self.frame(_PING, _ACKNOWLEDGED, 0, payload)
        elif kind == _UPDATE:
            self._widened(id, payload)
        elif kind == _RESET:
            self._was_reset(id)
        elif kind == _GOAWAY and self._serve is None:
            raise EOFError
        elif kind in (_PUSH, _CONTINUATION):
            raise ValueError("a frame is out of place")

    def _was_reset(self, id: int) -> None:
        if (stream := self._streams.get(id)) is not None:
            stream.fail("the client has cancelled the call")
            self._room.set()
        if (task := self._tasks.get(id)) is not None:
            task.cancel()

    async def _data(self, id: int, flags: int, payload: bytes) -> None:
        stream, block = self._streams.get(id), _unpadded(flags, payload)
        self._taken += len(payload)
        if self._taken >= _WIDEN_ALL:
            await self.widen(0, self._taken)
            self._taken = 0
        if stream is not None:
            stream.arrived(block, end=bool(flags & _END_STREAM))

    async def _headers(self, id: int, flags: int, payload: bytes) -> None:
        block = _unpadded(flags, payload)
        if flags & _PRIORITY:
            block = block[5:]
        ended = bool(flags & _END_STREAM)
        while not flags & _END_HEADERS:
            length, kind, flags, of = _head(await self._link.read(9))
            if kind != _CONTINUATION or of != id or length > _LARGEST_FRAME or len(block) + length > _HEADER_BYTES:
                raise ValueError("headers are not continued as they should be")
            block += await self._link.read(length)
        fields = self._decoder.decode(block)
        stream = self._streams.get(id)
        if stream is not None:
            if stream.headers:
                stream.trailers = fields
            else:
                stream.headers = fields
            stream.arrived(b"", end=ended)
        elif self._serve is not None and id > self._last and id % 2:
            self._last = id
            await self._opened(id, fields, ended=ended)

    async def _opened(self, id: int, fields: list[Field], *, ended: bool) -> None:
        if len(self._streams) >= self._most:
            await self.frame(_RESET, 0, id, struct.pack(">I", _REFUSED))
            return
        stream = Stream(self, id, fields)
        self._streams[id] = stream
        stream.arrived(b"", end=ended)
        self._tasks[id] = asyncio.ensure_future(self._served(stream))

    async def _served(self, stream: Stream) -> None:
        assert self._serve is not None
        try:
            with suppress(ConnectionError):
                await self._serve(stream)
        finally:
            self.forget(stream)
            self._tasks.pop(stream.id, None)

    def _settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise ValueError("malformed settings")
        for at in range(0, len(payload), 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == _INITIAL_WINDOW:
                if value > _WIDEST:
                    raise ValueError("a window is too wide")
                for stream in self._streams.values():
                    stream.window += value - self.their_window
                self.their_window = value
                self._room.set()

    def _widened(self, id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ValueError("malformed update of a window")
        size = int.from_bytes(payload) & _WIDEST
        if id == 0:
            self._window += size
        elif (stream := self._streams.get(id)) is not None:
            stream.window += size
        if self._window > _WIDEST:
            raise ValueError("a window is too wide")
        self._room.set()


def _frame(kind: int, flags: int, id: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, id) + payload


def _head(data: bytes) -> tuple[int, int, int, int]:
    first, flags, id = struct.unpack(">IBI", data)
    return first >> 8, first & 0xFF, flags, id & _WIDEST


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ValueError("a frame is padded wrongly")
    return payload[1 : len(payload) - payload[0]]
