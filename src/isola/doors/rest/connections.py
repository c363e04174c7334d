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

    def __init__(self, clock: Clock, names: Sequence[str]) -> None:
        self.secrets: Mapping[str, str] = {name: clock.token(32) for name in names}
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

    def connect(self, secret: str, channel: Channel) -> str:
        """Register a connection; returns the channel's name. Raises NotFound for a wrong secret, Conflict if taken."""
        for name, known in self.secrets.items():
            if known == secret:
                future = self._connected.get(name)
                if future is None or future.done():
                    state = "is connected already" if future is not None else "has ended with its operation"
                    raise Conflict(f"Channel {name!r} {state}")
                future.set_result(channel)
                return name
        raise NotFound("No such channel of this operation", remedy="use a secret from the operation's metadata.fds")

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
