"""gRPC: messages with a length, metadata as headers, a status at the end."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from enum import IntEnum
from urllib.parse import quote, unquote

from isola.doors.docker.buildkit.http2 import Broken, Connection, Stream
from isola.doors.docker.buildkit.wire import message
from isola.errors import IsolaError

_LARGEST = 16 << 20
"""Bytes of a message, as in BuildKit."""
_HEAD = 5
_TYPE = ("content-type", "application/grpc")
_HEADERS = (_TYPE, ("te", "trailers"))


class Code(IntEnum):
    """Statuses that are sent or looked for here."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID = 3
    NOT_FOUND = 5
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Failure(Exception):
    """A status that is not OK, of either side."""

    def __init__(self, code: int, message: str, details: Sequence[bytes] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        """Messages ``google.protobuf.Any``."""


class Call:
    """Messages of one stream, of either side."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._pending = bytearray()

    async def read(self) -> bytes | None:
        """The next message; None at the end. Raises Broken, Failure."""
        while True:
            if len(self._pending) >= _HEAD:
                packed, size = struct.unpack_from(">BI", self._pending)
                if packed or size > _LARGEST:
                    raise Failure(Code.INVALID, "a message is compressed or too long")
                if len(self._pending) >= _HEAD + size:
                    found = bytes(self._pending[_HEAD : _HEAD + size])
                    del self._pending[: _HEAD + size]
                    return found
            block = await self.stream.read()
            if not block:
                if self._pending:
                    raise Broken("a message ends too early")
                return None
            self._pending += block

    async def send(self, *messages: bytes) -> None:
        """Several in as few frames as they need. Raises Broken."""
        await self.stream.send(b"".join(struct.pack(">BI", 0, len(each)) + each for each in messages))


Method = Callable[[Call], AsyncIterator[bytes]]
"""Answers a call with messages. Raises Failure, or an IsolaError."""


async def answer(stream: Stream, methods: Mapping[str, Method], unknown: str) -> None:
    """One call to this side; ``unknown`` is the message for other methods. Raises Broken."""
    await stream.send_headers([(":status", "200"), _TYPE])
    code, text, details = int(Code.OK), "", tuple[bytes, ...]()
    try:
        method = methods.get(stream.header(":path"))
        if method is None:
            raise Failure(Code.UNIMPLEMENTED, unknown)
        call = Call(stream)
        async with aclosing(method(call)) as messages:  # type: ignore[type-var]  # all are generators
            async for each in messages:
                await call.send(each)
    except Failure as error:
        code, text, details = error.code, error.message, tuple(error.details)
    except IsolaError as error:
        code, text = int(Code.UNKNOWN), str(error)
    except Broken as error:
        if stream.failed is not None:
            raise
        code, text = int(Code.UNAVAILABLE), str(error)  # of a session
    except ValueError as error:
        code, text = int(Code.INVALID), str(error)
    trailers = [("grpc-status", str(code)), ("grpc-message", quote(text, safe=" ,.:;=()'/\"[]"))]
    if details:
        status = base64.b64encode(message({1: code, 2: text, 3: details})).decode().rstrip("=")
        trailers.append(("grpc-status-details-bin", status))
    await stream.send_headers(trailers, end=True)


async def only(call: Call) -> bytes:
    """The message of a call that has one. Raises Failure."""
    if (found := await call.read()) is None:
        raise Failure(Code.INVALID, "a message is missing")
    return found


@asynccontextmanager
async def calling(
    connection: Connection, path: str, metadata: Mapping[str, Sequence[str]] | None = None
) -> AsyncIterator[Call]:
    """A call to the peer; reset if the block ends before it. Raises Broken."""
    more = [(name, value) for name, values in (metadata or {}).items() for value in values]
    stream = await connection.open(
        [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "isola"), *_HEADERS, *more]
    )
    try:
        yield Call(stream)
    finally:
        if not stream.ended:
            await stream.cancel()
        connection.forget(stream)


def require_ok(call: Call) -> None:
    """After the last message. Raises Failure."""
    text = call.stream.header("grpc-status")
    if text not in ("", "0"):
        code = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else int(Code.UNKNOWN)
        raise Failure(code, unquote(call.stream.header("grpc-message")) or f"the client answers with status {code}")


async def ask(connection: Connection, path: str, request: bytes) -> bytes:
    """One message and its reply. Raises Broken, Failure."""
    async with calling(connection, path) as call:
        await call.send(request)
        await call.stream.finish()
        found = await call.read()
        while await call.read() is not None:
            pass
        require_ok(call)
        return found or b""


Asking = Callable[[str, bytes], Awaitable[bytes]]
