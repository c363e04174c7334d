"""Turns an HTTP connection into a stream of bytes after ``101 Switching Protocols``, or after ``200 OK``."""

from __future__ import annotations

import asyncio
import fcntl
import select
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from aiohttp import web

from isola.doors.http.protocol import Protocol

_LOOKS, _LOOK_SECONDS = 500, 0.002
_READ_AHEAD = 64 * 1024
_NONE: Mapping[str, str] = {}


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
        """The client has closed; may be called again."""
        self._reader.feed_eof()


class _Unframed(web.StreamResponse):
    """Neither chunked nor with a length, as the bytes after the headers are not HTTP."""

    _length_check = False


class TakenOver:
    """The connection. Both buffers are bounded: while the client does not read, nothing is read from it."""

    def __init__(
        self, response: web.StreamResponse, reader: asyncio.StreamReader, transport: asyncio.BaseTransport
    ) -> None:
        self.response = response
        self._reader = reader
        self._transport = transport

    async def read(self, size: int) -> bytes:
        """Read exactly ``size`` bytes. Raises IncompleteReadError, an EOFError, after the client has closed."""
        return await self._reader.readexactly(size)

    async def read_some(self, most: int = _READ_AHEAD) -> bytes:
        """What has arrived; empty at EOF."""
        return await self._reader.read(most)

    async def write(self, data: bytes) -> None:
        """Waits while the client is slow. Raises ConnectionError after either side has closed."""
        try:
            await self.response.write(data)
        except RuntimeError as error:  # after the response has ended
            raise ConnectionResetError("the connection is closed") from error

    async def head_read(self) -> None:
        """Wait, for a second at most, until the client has read what was sent; known of Unix sockets only.

        Libraries that read the head through a buffer lose what arrives together with it.
        """
        link = self._transport.get_extra_info("socket")
        with suppress(OSError, ValueError):
            for _ in range(_LOOKS):
                if not struct.unpack("i", fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, bytes(4)))[0]:
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    @property
    def gone(self) -> bool:
        """Whether the client reads no more. Some time after EOF only this tells it: it may have closed one side."""
        if self._transport.is_closing():
            return True
        link = self._transport.get_extra_info("socket")
        poll = select.poll()
        with suppress(OSError, ValueError):
            poll.register(link.fileno(), 0)  # errors and hang-ups are always reported
            return bool(poll.poll(0))
        return True


async def take_over(
    request: web.BaseRequest,
    protocol: str,
    *,
    headers: Mapping[str, str] = _NONE,
    reason: str | None = None,
    upgrade: bool = True,
    half_close: bool = False,
) -> TakenOver:
    """Answer ``101`` to an upgrade to ``protocol``, or 200. The handler returns ``response`` when it has finished.

    With ``half_close``, the connection stays open for writing after the client's EOF.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    upgrading = {"Upgrade": protocol, "Connection": "Upgrade"} if upgrade else {}
    response = _Unframed(status=101 if upgrade else 200, reason=reason, headers={**headers, **upgrading})
    await response.prepare(request)
    response.force_close()
    reader = asyncio.StreamReader(limit=_READ_AHEAD)
    reader.set_transport(transport)  # lets the reader pause the transport while its buffer is full
    feed = _Feed(reader)
    request.protocol.set_parser(feed)  # type: ignore[arg-type] # anything that is fed as WebSockets' parser is
    if half_close:
        _keep_half_open(request, transport, feed)
    return TakenOver(response, reader, transport)


def _keep_half_open(request: web.BaseRequest, transport: asyncio.BaseTransport, feed: _Feed) -> None:
    encrypted = transport.get_extra_info("ssl_object")
    if encrypted is not None:
        from isola.doors.http.tls import ServerConnection  # loaded already, where there is one

        assert isinstance(encrypted, ServerConnection)
        # asyncio passes on the data before it after it has met the end
        encrypted.half_closed = partial(asyncio.get_running_loop().call_soon, feed.feed_eof)
    elif isinstance(request.protocol, Protocol):
        request.protocol.half_closed = feed.feed_eof
