"""Events of a build for one client, which may read slowly."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from isola.model.build import BuildEvent, BuildEventKind
from isola.operations import Operation

MOST_PENDING = 16 << 20
"""Bytes of output that wait for the client; more is left out."""
_MOST_AHEAD = 4 << 20
"""Bytes of the result that wait for the client."""
_LOOK_EVERY = 1.0
"""Seconds between two looks whether the client is still there, while there is nothing to send."""
_LEFT_OUT = b"[output was left out, because the client reads slowly]\n"


class Following:
    """``tell`` of a build, and an iterator over the events that it is called with."""

    def __init__(self) -> None:
        self._events: deque[BuildEvent] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._full = False
        self._taken = asyncio.Event()

    async def send(self, data: bytes, name: str = "") -> None:
        """A piece of the result, or of a cache with a name; waits while the client reads slowly."""
        while self._size > _MOST_AHEAD:
            self._taken.clear()
            await self._taken.wait()
        self._events.append(BuildEvent(BuildEventKind.DATA, 0, name, data=data))
        self._size += len(data)
        self._news.set()

    def tell(self, event: BuildEvent) -> None:
        """Never waits."""
        if event.kind is BuildEventKind.AGENT:  # a program waits for the reply
            self._events.appendleft(event)
            self._size += len(event.data)
            self._news.set()
            return
        self._size += len(event.data)
        if self._size > MOST_PENDING and event.kind is BuildEventKind.OUTPUT:
            self._size -= len(event.data)
            if not self._full:
                self._events.append(BuildEvent(BuildEventKind.OUTPUT, event.stage, data=_LEFT_OUT))
            self._full = True
        else:
            self._events.append(event)
        self._news.set()

    async def events(self, operation: Operation, gone: Callable[[], bool]) -> AsyncIterator[BuildEvent]:
        """All of them, until the operation has ended. Raises ConnectionError once the client is ``gone``."""
        ended = asyncio.ensure_future(operation.wait())
        try:
            while True:
                while self._events:
                    event = self._events.popleft()
                    self._size -= len(event.data)
                    self._full = False
                    self._taken.set()
                    yield event
                if ended.done():
                    return
                self._news.clear()
                news = asyncio.ensure_future(self._news.wait())
                await asyncio.wait([news, ended], return_when=asyncio.FIRST_COMPLETED, timeout=_LOOK_EVERY)
                news.cancel()
                if gone():
                    raise ConnectionError("the client has gone")
        finally:
            ended.cancel()
