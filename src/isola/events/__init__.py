"""Publishing and following events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from isola.model.caller import DAEMON, Caller
from isola.model.event import Event, EventKind, Lifecycle, LogLine
from isola.model.operation import OperationView
from isola.model.reference import OF_SERVER, Entity

_BACKLOG = 4096
Content = OperationView | Lifecycle | LogLine


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a follower wants to hear about."""

    kinds: frozenset[EventKind]
    project: str | None
    shared: Callable[[Entity], bool]

    def fits(self, kind: EventKind, content: Content, project: str) -> bool:
        if kind not in self.kinds:
            return False
        return self.project is None or project in (OF_SERVER, self.project) or any(map(self.shared, _about(content)))


def _about(content: Content) -> Sequence[Entity]:
    if isinstance(content, LogLine):
        return ()
    return content.resources if isinstance(content, OperationView) else (content.source,)


class Events:
    """A hub in memory. Publishing never waits; a follower that is too slow is disconnected."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._followers: dict[asyncio.Queue[Event | None], _Wish] = {}

    def operation(self, view: OperationView) -> None:
        """An operation has begun, made progress or ended."""
        self._publish(EventKind.OPERATION, view, view.project)

    def lifecycle(self, action: str, source: Entity, *, caller: Caller = DAEMON, **context: object) -> None:
        """A resource was changed by the caller, such as ``instance-started``."""
        self._publish(EventKind.LIFECYCLE, Lifecycle(action, source, context, caller), source.project)

    def log(self, level: str, message: str, **context: str) -> None:
        """A line of the daemon's log."""
        self._publish(EventKind.LOGGING, LogLine(level, message, context), OF_SERVER)

    def followed(self, kind: EventKind) -> bool:
        """Whether there are subscribers; without any, events need not be built."""
        return any(kind in wish.kinds for wish in self._followers.values())

    def follow(
        self,
        kinds: Collection[EventKind],
        project: str | None = None,
        *,
        shared: Callable[[Entity], bool] = lambda entity: False,
    ) -> Subscription:
        """Subscribe now; events are queued from this moment on. ``project`` None means all.

        ``shared``: whether the project also uses a thing of another one, so that events about it are its own, too.

        Events of the server as a whole (project ``OF_SERVER``, such as log lines) go to followers of any
        project.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_BACKLOG)
        self._followers[queue] = _Wish(frozenset(kinds), project, shared)
        return Subscription(queue, lambda: self._cut(queue))

    def close(self) -> None:
        """End all subscriptions."""
        for queue in list(self._followers):
            self._cut(queue)

    def _publish(self, kind: EventKind, content: Content, project: str) -> None:
        if not self._followers:
            return
        event = Event(kind, self._now(), content, project)
        for queue, wish in list(self._followers.items()):
            if not wish.fits(kind, content, project):
                continue
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._cut(queue)

    def _cut(self, queue: asyncio.Queue[Event | None]) -> None:
        if self._followers.pop(queue, None) is None:
            return
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)


class Subscription:
    """An async iterator of events; ends when it is closed or too slow."""

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
        """Unsubscribe; iterating over the events ends."""
        self._leave()
