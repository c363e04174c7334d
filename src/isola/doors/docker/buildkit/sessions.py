"""Sessions: connections over which the daemon asks a client for its files, secrets and passwords while it builds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from isola.doors.docker.buildkit.calls import Code, Failure, ask
from isola.doors.docker.buildkit.http2 import Connection
from isola.doors.docker.buildkit.wire import Message, message
from isola.errors import InvalidInput
from isola.images.registry.credentials import ANONYMOUS, Credentials
from isola.model.image_reference import DOCKER_HUB, HUB_ADDRESS

_TIMEOUT = 10.0
"""Seconds that a build waits for the session that it names: clients open both at the same time."""
_MOST = 1000

_CREDENTIALS = "/moby.filesync.v1.Auth/Credentials"
_SECRET = "/moby.buildkit.secrets.v1.Secrets/GetSecret"


@dataclass(frozen=True, slots=True)
class Session:
    """One client."""

    connection: Connection
    methods: frozenset[str]
    """Paths of what it answers."""

    async def credentials(self, domain: str) -> Credentials:
        """For a registry; anonymous where it has none. Raises Broken."""
        if _CREDENTIALS.lower() not in self.methods:
            return ANONYMOUS
        host = HUB_ADDRESS if domain == DOCKER_HUB else domain
        try:
            found = Message(await ask(self.connection, _CREDENTIALS, message({1: host})))
        except Failure:
            return ANONYMOUS
        user, secret = found.text(1), found.text(2)
        if not secret:
            return ANONYMOUS
        return Credentials(user, secret) if user else Credentials(identity_token=secret)

    async def secret(self, id: str) -> bytes | None:
        """None if the client has none of this id. Raises Broken, Failure."""
        if _SECRET.lower() not in self.methods:
            return None
        try:
            return Message(await ask(self.connection, _SECRET, message({1: id}))).blob(1)
        except Failure as error:
            if error.code == Code.NOT_FOUND:
                return None
            raise


class Sessions:
    """Those that are open now, by the ids that their clients have chosen."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._news = asyncio.Event()

    def require_free(self, id: str) -> None:
        """Raises InvalidInput if there are too many, or one of this id."""
        if not id or id in self._open or len(self._open) >= _MOST:
            raise InvalidInput("the session has no id or one that is taken, or there are too many", field="session")

    @contextmanager
    def held(self, id: str, connection: Connection, methods: Sequence[str]) -> Iterator[None]:
        """A session for the duration of the block. Raises InvalidInput if there are too many, or one of this id."""
        self.require_free(id)
        self._open[id] = Session(connection, frozenset(name.lower() for name in methods))
        self._news.set()
        self._news = asyncio.Event()
        try:
            yield
        finally:
            del self._open[id]

    async def find(self, id: str) -> Session:
        """Raises Failure if it is not opened in time."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                while id not in self._open:
                    await self._news.wait()
        except TimeoutError:
            raise Failure(Code.UNAVAILABLE, f"no active session for {id[:80]}: context deadline exceeded") from None
        return self._open[id]
