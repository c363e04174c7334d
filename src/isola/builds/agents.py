"""``RUN --mount=type=ssh``: programs ask the agent of the build's client, through the daemon.

Only two requests pass: for the list of keys, and for a signature. Everything else (adding, removing, locking) is
answered with a failure, without the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from isola.errors import InvalidInput, NotFound
from isola.host.sockets import Listener, Stream
from isola.model.build import BuildEvent, BuildEventKind

MAX_MESSAGE = 256 << 10
"""Bytes, as in OpenSSH."""
_MOST_CONNECTIONS = 16
_TIMEOUT = 120.0
"""Seconds: a person may have to touch a key."""
_HEAD = 4
_PASSED = frozenset((11, 13))
"""SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENTC_SIGN_REQUEST."""
_FAILURE = b"\0\0\0\1\5"


class Agents:
    """Requests that wait for the reply of a client, by tokens that only this client knows."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    async def ask(self, tell: Callable[[BuildEvent], None], stage: int, id: str, message: bytes) -> bytes:
        """The agent's reply; a failure if there is none in time."""
        token, reply = self._token(), asyncio.get_running_loop().create_future()
        self._waiting[token] = reply
        try:
            tell(BuildEvent(BuildEventKind.AGENT, stage, id, data=message, token=token))
            async with asyncio.timeout(_TIMEOUT):
                return bytes(await reply)
        except TimeoutError:
            return _FAILURE
        finally:
            del self._waiting[token]

    def reply(self, token: str, message: bytes) -> None:
        """Raises NotFound, InvalidInput (not one message)."""
        waiting = self._waiting.get(token)
        if waiting is None or waiting.done():
            raise NotFound("No program waits for this reply", field="token")
        if (
            len(message) > MAX_MESSAGE
            or len(message) < _HEAD
            or int.from_bytes(message[:_HEAD]) != len(message) - _HEAD
        ):
            raise InvalidInput("The reply is not a message of an SSH agent", field="data")
        waiting.set_result(message)


Ask = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def served(listener: Listener, ask: Ask) -> AsyncIterator[None]:
    """Connections to the listener are answered by ``ask`` until the end of the block."""
    serving = asyncio.ensure_future(_serve(listener, ask))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        listener.close()


async def _serve(listener: Listener, ask: Ask) -> None:
    free = asyncio.Semaphore(_MOST_CONNECTIONS)
    async with asyncio.TaskGroup() as talks:
        while True:
            await free.acquire()
            talk = talks.create_task(converse(await listener.accept(), ask))
            talk.add_done_callback(lambda _: free.release())


async def converse(stream: Stream, ask: Ask) -> None:
    """Requests and replies of one connection, until it ends or sends something that is not a request."""
    pending = bytearray()
    try:
        while block := await stream.read():
            pending += block
            while len(pending) >= _HEAD:
                size = _HEAD + int.from_bytes(pending[:_HEAD])
                if not _HEAD < size <= MAX_MESSAGE:
                    return
                if len(pending) < size:
                    break
                message = bytes(pending[:size])
                del pending[:size]
                await stream.write(await ask(message) if message[_HEAD] in _PASSED else _FAILURE)
    finally:
        stream.close()
