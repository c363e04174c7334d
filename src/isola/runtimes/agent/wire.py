"""Frames of the agent's protocol. Pure: bytes in, frames out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from isola.errors import HostFailure

MAGIC = b"ISOLAGNT"
VERSION = 1
EPOCH_SIZE = 16
MAX_REQUEST = 1 << 20
"""Largest payload of the host."""
MAX_ANSWER = 512 << 10
"""Largest payload of the agent."""
MAX_DATA = 64 << 10
WINDOW = 256 << 10
"""Bytes of a channel that may be sent before the receiver gives credit."""
MAX_STALE = 4 << 20
"""Bytes of an earlier connection that are discarded at most."""
HEADER = struct.Struct("<IIIBBH")


class Type(IntEnum):
    """Types of frames."""

    HELLO = 0
    REQUEST = 1
    ANSWER = 2
    ERROR = 3
    DATA = 4
    END = 5
    CREDIT = 6
    EXIT = 7
    SIGNAL = 8
    RESIZE = 9
    CLOSE = 10


FROM_AGENT = frozenset({Type.ANSWER, Type.ERROR, Type.DATA, Type.END, Type.CREDIT, Type.EXIT, Type.CLOSE})
_WITH_CHANNEL = frozenset({Type.DATA, Type.END, Type.CREDIT})


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; its tag is the connection's."""

    type: Type
    stream: int = 0
    payload: bytes = b""
    channel: int = 0


def broken(what: str) -> HostFailure:
    """The error for a guest that violates the protocol."""
    return HostFailure("The agent in the guest violates the protocol", evidence=what, remedy="restart it")


def encode(frame: Frame, tag: int) -> bytes:
    """Raises ValueError if it is too large."""
    if len(frame.payload) > (MAX_DATA if frame.type is Type.DATA else MAX_REQUEST):
        raise ValueError(f"a payload of {len(frame.payload)} bytes")
    return HEADER.pack(len(frame.payload), frame.stream, tag, frame.type, frame.channel, 0) + frame.payload


def hello(epoch: bytes) -> bytes:
    """The first frame of the host."""
    return encode(Frame(Type.HELLO, payload=MAGIC + struct.pack("<II", VERSION, VERSION) + epoch), 0)


class Greeting:
    """Finds the agent's ``HELLO`` among bytes of earlier connections."""

    def __init__(self, epoch: bytes) -> None:
        self._sign = MAGIC + epoch
        self._seen = b""
        self._discarded = 0

    def feed(self, data: bytes) -> tuple[Frame, int, bytes] | None:
        """The frame, its tag and the bytes after it; None if it is not complete yet. Raises HostFailure."""
        self._seen += data
        at = self._seen.find(self._sign)
        if at < HEADER.size:
            if at >= 0:
                raise broken("a greeting without a header")
            self._drop(len(self._seen) - len(self._sign) - HEADER.size)
            return None
        self._drop(at - HEADER.size)
        length, stream, tag, kind, channel, zero = HEADER.unpack_from(self._seen)
        if (stream, kind, channel, zero) != (0, Type.HELLO, 0, 0) or length > MAX_ANSWER:
            raise broken("a malformed greeting")
        end = HEADER.size + length
        if len(self._seen) < end:
            return None
        return Frame(Type.HELLO, payload=self._seen[HEADER.size : end]), tag, self._seen[end:]

    def _drop(self, count: int) -> None:
        if count > 0:
            self._seen = self._seen[count:]
            self._discarded += count
            if self._discarded > MAX_STALE:
                raise broken("no greeting")


class Decoder:
    """Takes frames of a connection apart; holds at most one incomplete frame."""

    def __init__(self, tag: int) -> None:
        self._tag = tag
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Complete frames. Raises HostFailure for one that an agent may not send."""
        self._pending += data
        at = 0
        try:
            while len(self._pending) - at >= HEADER.size:
                length, stream, tag, kind, channel, zero = HEADER.unpack_from(self._pending, at)
                found = self._checked(length, tag, kind, channel, zero)
                if len(self._pending) - at < HEADER.size + length:
                    return
                at += HEADER.size + length
                yield Frame(found, stream, bytes(self._pending[at - length : at]), channel)
        finally:
            del self._pending[:at]

    def _checked(self, length: int, tag: int, kind: int, channel: int, zero: int) -> Type:
        if tag != self._tag:
            raise broken("a frame of another connection")
        if kind not in FROM_AGENT or zero:
            raise broken(f"a frame of type {kind}")
        if channel > (2 if kind in _WITH_CHANNEL else 0):
            raise broken(f"a frame for channel {channel}")
        if length > (MAX_DATA if kind == Type.DATA else MAX_ANSWER):
            raise broken(f"a frame of {length} bytes")
        return Type(kind)
