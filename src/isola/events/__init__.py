"""Publish and follow what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import datetime

from isola.model.event import Event

_BACKLOG = 4096


class Events:
    """A hub in memory. Publishing never waits; a follower too slow to keep up is cut off."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._followers: dict[asyncio.Queue[Event | None], tuple[frozenset[str], str | None]] = {}

    def publish(self, kind: str, metadata: Mapping[str, object], *, project: str = "default") -> None:
        """Tell all followers of ``kind`` (``operation``, ``lifecycle``, ``logging``)."""
        if not self._followers:
            return
        event = Event(kind, self._now(), metadata, project)
        for queue, (kinds, wanted) in list(self._followers.items()):
            if event.type not in kinds or (wanted is not None and wanted != project):
                continue
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._cut(queue)

    def followed(self, kind: str) -> bool:
        """Whether anybody would be told; saves the work of describing what nobody hears."""
        return any(kind in kinds for kinds, _ in self._followers.values())

    def lifecycle(self, action: str, source: str, *, project: str = "default", **context: object) -> None:
        """Say that something changed: ``instance-started``, ``/1.0/instances/web1``."""
        metadata: dict[str, object] = {"action": action, "source": source, "project": project}
        if context:
            metadata["context"] = context
        self.publish("lifecycle", metadata, project=project)

    def log(self, level: str, message: str, **context: str) -> None:
        """A line for followers of ``logging``."""
        self.publish("logging", {"level": level, "message": message, "context": context})

    def follow(self, kinds: Collection[str], project: str | None = None) -> Subscription:
        """Subscribe now; events are kept from this moment on. ``project`` None means all."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_BACKLOG)
        self._followers[queue] = (frozenset(kinds), project)
        return Subscription(queue, lambda: self._cut(queue))

    def close(self) -> None:
        """End all subscriptions."""
        for queue in list(self._followers):
            self._cut(queue)

    def _cut(self, queue: asyncio.Queue[Event | None]) -> None:
        if self._followers.pop(queue, None) is None:
            return
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)


class Subscription:
    """An async iterator of events that ends when it is closed, or was too slow."""

    def __init__(self, queue: asyncio.Queue[Event | None], leave: Callable[[], object]) -> None:
        self._queue = queue
        self._leave = leave

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events()

    async def _events(self) -> AsyncIterator[Event]:
        try:
            while (event := await self._queue.get()) is not None:
                yield event
        finally:
            self.close()

    def close(self) -> None:
        """Stop following; whoever waits for the next event comes to the end."""
        self._leave()
