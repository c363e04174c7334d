"""WebSockets: channels of operations, and the stream of events."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import WSMsgType, web

from isola.doors.rest.request import Request
from isola.errors import Conflict, Forbidden
from isola.operations import Operation

_MESSAGE_LIMIT = 4 * 2**20
_CLOSE_SECONDS = 1.0


class WebSocketChannel:
    """An operation's channel over a WebSocket: text for control, binary for data."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self.closed = asyncio.Event()

    async def receive(self) -> bytes | str | None:
        """The next message; None after the client has closed."""
        message = await self._socket.receive()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data: bytes | str = message.data
            return data
        self.closed.set()
        return None

    async def send(self, data: bytes | str) -> None:
        """Waits while the client is slow; does nothing after it has closed."""
        with suppress(ConnectionError, RuntimeError):
            await (self._socket.send_str(data) if isinstance(data, str) else self._socket.send_bytes(data))

    async def close(self) -> None:
        """The handler that owns the socket closes it, without waiting for the client's close frame."""
        self.closed.set()


async def accept(request: Request) -> web.WebSocketResponse:
    """Accept the upgrade."""
    socket = web.WebSocketResponse(max_msg_size=_MESSAGE_LIMIT, compress=False, timeout=_CLOSE_SECONDS)
    await socket.prepare(request.http)
    request.sockets.add(socket)
    return socket


def is_upgrade(request: Request) -> bool:
    """Whether the client requests a WebSocket."""
    return request.http.headers.get("Upgrade", "").lower() == "websocket"


async def serve_channel(request: Request, operation: Operation, secret: str) -> web.StreamResponse:
    """Connect the client to the channel that its secret selects, until either side closes or the operation ends.

    A wrong secret is Forbidden rather than NotFound, as in LXD, because the operation exists.
    """
    channels = request.connections.get(operation)
    if channels is None or secret not in channels.secrets.values():
        raise Forbidden("No channel has this secret", remedy="use a secret from the operation's metadata.fds")
    socket = await accept(request)
    channel = WebSocketChannel(socket)
    waits = [asyncio.ensure_future(channel.closed.wait()), asyncio.ensure_future(operation.wait())]
    try:
        channels.connect(secret, channel)
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    except Conflict as error:
        await channel.send(error.message)
    finally:
        for wait in waits:
            wait.cancel()
        request.sockets.discard(socket)
        await close_socket(socket)
    return socket


async def close_socket(socket: web.WebSocketResponse) -> None:
    """Close, with a short wait for the client's close frame."""
    with suppress(ConnectionError, RuntimeError, TimeoutError):
        async with asyncio.timeout(2 * _CLOSE_SECONDS):
            await socket.close()
    if (error := socket.exception()) is not None:
        error.__traceback__ = (
            None  # it refers to the socket, whose buffers would stay in memory until garbage collection
        )
