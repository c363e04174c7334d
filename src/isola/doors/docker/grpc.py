"""Answers every call of gRPC with one error, over HTTP/2 on a connection that was taken over.

Clients of BuildKit ask here which builder they have; without an answer they start one of their own in a privileged
container. Requests are not decoded.
"""

from __future__ import annotations

import asyncio
import struct
from urllib.parse import quote

from isola.doors.http.takeover import TakenOver

WAY_OUT = "this daemon has a builder of its own, not BuildKit: set DOCKER_BUILDKIT=0 and use docker build"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA_MOST = 16384
"""Bytes of a frame, unless a larger size was agreed on."""
_MOST_FRAMES = 1000
_SECONDS = 30.0
_HEADERS, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 1, 4, 6, 7, 9
_ACKNOWLEDGED, _END_STREAM, _END_HEADERS = 1, 1, 4
_STATUS_200 = b"\x88"
"""``:status: 200`` in the static table of HPACK."""
_UNIMPLEMENTED = "12"


async def refuse_calls(connection: TakenOver, message: str) -> None:
    """Until the client closes, or for 30 seconds."""
    try:
        async with asyncio.timeout(_SECONDS):
            await _refuse(connection, refusal(message))
    except (TimeoutError, EOFError, ConnectionError):
        return


async def _refuse(connection: TakenOver, answer: bytes) -> None:
    if await connection.read(len(_PREFACE)) != _PREFACE:
        return
    await connection.write(frame(_SETTINGS, 0, 0, b""))
    for _ in range(_MOST_FRAMES):
        length, kind, flags, stream = _head(await connection.read(9))
        if length > _DATA_MOST or kind == _GOAWAY:
            return
        payload = await connection.read(length)
        if kind in (_SETTINGS, _PING) and not flags & _ACKNOWLEDGED:
            await connection.write(frame(kind, _ACKNOWLEDGED, 0, payload if kind == _PING else b""))
        elif kind in (_HEADERS, _CONTINUATION) and flags & _END_HEADERS:
            await connection.write(frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, answer))


def refusal(message: str) -> bytes:
    """The headers of a response that is an error alone."""
    fields = {
        "content-type": "application/grpc",
        "grpc-status": _UNIMPLEMENTED,
        "grpc-message": quote(message, safe=" ,.:;=()'"),
    }
    return _STATUS_200 + b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame of HTTP/2."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _head(data: bytes) -> tuple[int, int, int, int]:
    first, flags, stream = struct.unpack(">IBI", data)
    return first >> 8, first & 0xFF, flags, stream & 0x7FFFFFFF


def _text(value: str) -> bytes:
    """A literal of HPACK, without Huffman's code."""
    data = value.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, more = len(data) - 127, b"\x7f"
    while rest >= 128:
        more += bytes((rest % 128 + 128,))
        rest //= 128
    return more + bytes((rest,)) + data
