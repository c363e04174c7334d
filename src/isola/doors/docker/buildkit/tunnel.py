"""The bytes of a session inside of a call (``Control.Session``), where there is no HTTP that could be upgraded."""

from __future__ import annotations

from isola.doors.docker.buildkit.calls import Call, Failure
from isola.doors.docker.buildkit.wire import Message, message

_LARGEST = 1 << 20
"""Bytes of a message; clients take more."""


class Tunnel:
    """A ``Link``."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._pending = bytearray()

    async def read(self, size: int) -> bytes:
        """Raises EOFError, ConnectionError."""
        while len(self._pending) < size:
            try:
                data = await self._call.read()
                if data is None:
                    raise EOFError
                self._pending += Message(data).blob(1)
            except (Failure, ValueError) as error:
                raise ConnectionError(str(error)) from error
        found = bytes(self._pending[:size])
        del self._pending[:size]
        return found

    async def write(self, data: bytes) -> None:
        """Waits while the client is slow. Raises ConnectionError."""
        for start in range(0, len(data), _LARGEST):
            await self._call.send(message({1: data[start : start + _LARGEST]}))
