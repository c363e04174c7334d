"""Messages as they happen, and the last ones, for clients that ask for a time before their request."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator

from isola.doors import Services
from isola.doors.docker.events.rendering import Message, Renderer
from isola.doors.docker.times import nanoseconds
from isola.model.event import EventKind

log = logging.getLogger(__name__)
_KEPT = 256
_BACKLOG = 1024
"""Messages that a client may be behind; then its stream ends."""


class History:
    """Begins with the first request for events, or for anything else, of a client of this door."""

    def __init__(self, services: Services, project: str) -> None:
        self.project = project
        self._services = services
        self._kept: deque[Message] = deque(maxlen=_KEPT)
        self._followers: set[asyncio.Queue[Message | None]] = set()
        self._subscription = services.events.follow([EventKind.LIFECYCLE])
        self._renderer = Renderer(services, project)
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        async for event in self._subscription:
            try:
                messages = list(self._renderer.messages(event))
            except Exception:  # one event that cannot be shown must not end the stream of all
                log.exception("An event cannot be shown")
                continue
            for message in messages:
                self._publish(message)

    def tell(self, type: str, action: str, id: str = "", **attributes: str) -> None:
        """A message about a request to this door that changes no single thing."""
        now = nanoseconds(self._services.host.clock.now())
        self._publish(Message(type, action, id, attributes, now))

    def _publish(self, message: Message) -> None:
        self._kept.append(message)
        for queue in list(self._followers):
            if queue.full():
                self._followers.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(message)

    async def follow(self, since: int | None) -> AsyncGenerator[Message, None]:
        """Kept messages from ``since`` on, and all that follow; ends if the client is too slow."""
        queue: asyncio.Queue[Message | None] = asyncio.Queue(_BACKLOG)
        self._followers.add(queue)
        try:
            for message in self.past(since):
                yield message
            while (found := await queue.get()) is not None:
                yield found
        finally:
            self._followers.discard(queue)

    def past(self, since: int | None) -> list[Message]:
        """Kept messages from ``since`` on; none without it."""
        return [] if since is None else [each for each in self._kept if each.time >= since]

    def close(self) -> None:
        """End all streams."""
        self._subscription.close()
        self._task.cancel()
        for queue in list(self._followers):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)
