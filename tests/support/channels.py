"""The client's side of an operation's channels, in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from isola.doors.rest.connections import Channels, no_connections
from isola.operations import Operation

CONNECTIONS = no_connections()
"""Channels of operations that tests have started like the REST door."""


class Client:
    """The client's end of a channel: ``say`` sends, ``heard`` contains the received messages."""

    def __init__(self) -> None:
        self.heard = b""
        self.closed = False
        self._said: asyncio.Queue[bytes | str | None] = asyncio.Queue()

    def say(self, message: bytes | str) -> None:
        """Send."""
        self._said.put_nowait(message)

    def command(self, **message: object) -> None:
        """A control message."""
        self.say(json.dumps(message))

    def leave(self) -> None:
        """The client closes."""
        self._said.put_nowait(None)

    async def receive(self) -> bytes | str | None:
        """The next message for the daemon."""
        return await self._said.get()

    async def send(self, data: bytes | str) -> None:
        """Called by the daemon with its output."""
        self.heard += data.encode() if isinstance(data, str) else data

    async def close(self) -> None:
        """The daemon closes."""
        self.closed = True


def channels_of(operation: Operation) -> Channels:
    """The channels a client may connect."""
    return CONNECTIONS[operation]


def connect(operation: Operation) -> Mapping[str, Client]:
    """Connect all channels of an operation."""
    return connect_all(channels_of(operation))


def connect_all(channels: Channels) -> Mapping[str, Client]:
    """Connect them."""
    clients = {name: Client() for name in channels.secrets}
    for name, client in clients.items():
        channels.connect(channels.secrets[name], client)
    return clients


async def eventually(condition: object, seconds: float = 60) -> None:
    """Wait until ``condition()`` is true."""
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - whatever changes it, no event tells
            await asyncio.sleep(0)
