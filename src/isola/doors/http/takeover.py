"""Turns an HTTP connection into a stream of bytes after ``101 Switching Protocols``."""

from __future__ import annotations

import asyncio

from aiohttp import web

_READ_AHEAD = 64 * 1024


class _Feed:
    """Receives the bytes after the request from aiohttp's protocol."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Accept all bytes; returns not-EOF and no remainder."""
        if data:
            self._reader.feed_data(bytes(data))
        return False, b""

    def feed_eof(self) -> None:
        """The client has closed."""
        self._reader.feed_eof()


class TakenOver:
    """The connection. Both buffers are bounded: while the client does not read, nothing is read from it."""

    def __init__(self, response: web.StreamResponse, reader: asyncio.StreamReader) -> None:
        self.response = response
        self._reader = reader

    async def read(self, size: int) -> bytes:
        """Read exactly ``size`` bytes. Raises IncompleteReadError, an EOFError, after the client has closed."""
        return await self._reader.readexactly(size)

    async def write(self, data: bytes) -> None:
        """Waits while the client is slow. Raises ConnectionError after it has closed."""
        await self.response.write(data)


async def take_over(request: web.BaseRequest, protocol: str) -> TakenOver:
    """Answer ``101`` to an upgrade to ``protocol``. The handler returns ``response`` when it has finished."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    response = web.StreamResponse(status=101, headers={"Upgrade": protocol, "Connection": "Upgrade"})
    await response.prepare(request)
    response.force_close()
    reader = asyncio.StreamReader(limit=_READ_AHEAD)
    reader.set_transport(transport)  # lets the reader pause the transport while its buffer is full
    request.protocol.set_parser(_Feed(reader))  # type: ignore[arg-type] # anything that is fed as WebSockets' parser is
    return TakenOver(response, reader)
