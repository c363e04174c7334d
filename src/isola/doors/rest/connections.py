"""Channels of operations: which a client may connect by WebSocket, and by which secret."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

from isola.errors import Conflict, NotFound, TimedOut
from isola.host.clock import Clock
from isola.operations import Operation

CONNECT_SECONDS = 30
_WAITING = 16
"""Most connections of a channel that is connected repeatedly, which are not taken yet."""


class Channel(Protocol):
    """A client's connection: messages both ways, text for control, bytes for data."""

    async def receive(self) -> bytes | str | None:
        """The next message, or None when the client has closed."""
        ...

    async def send(self, data: bytes | str) -> None:
        """Does nothing after the client has closed."""
        ...

    async def close(self) -> None:
        """Signal EOF to the client."""
        ...


class Channels:
    """The channels of one operation. Secrets are kept after its end, connections are not."""

    def __init__(self, clock: Clock, names: Sequence[str], *, repeated: str = "") -> None:
        """``repeated``: the name of a channel that the client may connect again and again."""
        self.secrets: Mapping[str, str] = {name: clock.token(32) for name in names}
        self._repeated = repeated
        self._more: asyncio.Queue[Channel] = asyncio.Queue(_WAITING)
        loop = asyncio.get_running_loop()
        self._connected: dict[str, asyncio.Future[Channel]] = {name: loop.create_future() for name in names}

    async def get(self, name: str, timeout: float | None = CONNECT_SECONDS) -> Channel:
        """Wait until the client has connected a channel. Raises TimedOut."""
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._connected[name])
        except TimeoutError:
            raise TimedOut(
                f"Channel {name!r} was not connected within {timeout:g} seconds", remedy="connect all channels at once"
            ) from None

    async def next(self) -> Channel:
        """Wait for one more connection of the channel that is connected repeatedly."""
        return await self._more.get()

    def connect(self, secret: str, channel: Channel) -> str:
        """Register a connection; returns the channel's name. Raises NotFound for a wrong secret, Conflict if taken."""
        for name, known in self.secrets.items():
            if known == secret:
                future = self._connected.get(name)
                if name == self._repeated and future is not None:
                    self._connect_more(channel, future)
                    return name
                if future is None or future.done():
                    state = "is connected already" if future is not None else "has ended with its operation"
                    raise Conflict(f"Channel {name!r} {state}")
                future.set_result(channel)
                return name
        raise NotFound("No such channel of this operation", remedy="use a secret from the operation's metadata.fds")

    def _connect_more(self, channel: Channel, first: asyncio.Future[Channel]) -> None:
        try:
            self._more.put_nowait(channel)
        except asyncio.QueueFull:
            raise Conflict("Too many connections wait already") from None
        if not first.done():
            first.set_result(channel)

    def connected(self, name: str) -> bool:
        """Whether the client has connected this channel."""
        return name in self._connected and self._connected[name].done()

    def release(self) -> None:
        """After the operation's end: drop the connections, which hold buffers and sockets."""
        for future in self._connected.values():
            future.cancel()
        self._connected = {}


Connections = MutableMapping[Operation, Channels]
"""The channels of operations, by operation."""


def no_connections() -> Connections:
    """An empty map with weak keys: an entry is removed with its operation."""
    return WeakKeyDictionary()
