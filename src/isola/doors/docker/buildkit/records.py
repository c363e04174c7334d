"""The last builds of clients of BuildKit, for ``docker buildx history``. They are kept in memory alone."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum

from isola.doors.docker.buildkit.progress import Progress
from isola.doors.docker.buildkit.wire import message, timestamp

_MOST = 50
_MOST_BYTES = 32 << 20
"""Of all of them, with their output and the options that clients gave."""
_PENDING = 1000
"""Events that a client may be behind; then it gets no more."""


class Happened(IntEnum):
    """``BuildHistoryEventType``."""

    STARTED = 0
    COMPLETE = 1
    DELETED = 2


@dataclass(slots=True)
class Record:
    """One build. Times are in nanoseconds since 1970."""

    ref: str
    project: str
    progress: Progress
    created: int
    frontend: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    exporters: tuple[tuple[str, Mapping[str, str]], ...] = ()
    completed: int = 0
    code: int = 0
    error: str = ""
    response: Mapping[str, str] = field(default_factory=dict)
    pinned: bool = False

    @property
    def size(self) -> int:
        """Bytes in memory."""
        options = (self.attributes, *(attributes for _, attributes in self.exporters))
        return self.progress.kept + sum(len(name) + len(value) for each in options for name, value in each.items())

    def shown(self) -> bytes:
        """``BuildHistoryRecord``."""
        counts = self.progress.counts
        return message(
            {
                1: self.ref,
                2: self.frontend,
                3: self.attributes,
                4: [message({1: name, 2: attributes}) for name, attributes in self.exporters],
                5: message({1: self.code, 2: self.error}) if self.code else None,
                6: timestamp(self.created),
                7: timestamp(self.completed) if self.completed else None,
                9: self.response,
                12: 1,
                14: self.pinned,
                15: counts.cached,
                16: counts.total,
                17: counts.completed,
                19: counts.warnings,
            }
        )


class Records:
    """The oldest ones that have ended make room, those that a client has pinned last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Record] = OrderedDict()
        self._followers: dict[asyncio.Queue[tuple[Happened, Record] | None], str] = {}

    def begin(self, record: Record) -> None:
        """A build that runs from now on."""
        self._kept[record.ref] = record
        self._tell(Happened.STARTED, record)

    def end(self, record: Record, now: int, *, code: int = 0, error: str = "") -> None:
        """It has ended, with a status of gRPC."""
        record.completed, record.code, record.error = now, code, error
        self._tell(Happened.COMPLETE, record)
        self._make_room()

    def find(self, ref: str, project: str) -> Record | None:
        """A build of the project."""
        found = self._kept.get(ref)
        return found if found is not None and found.project == project else None

    def of(self, project: str) -> list[Record]:
        """Oldest first."""
        return [each for each in self._kept.values() if each.project == project]

    def remove(self, record: Record) -> None:
        """One that has ended."""
        if self._kept.pop(record.ref, None) is not None:
            self._tell(Happened.DELETED, record)

    @contextmanager
    def followed(self, project: str) -> Iterator[AsyncIterator[tuple[Happened, Record]]]:
        """What happens from the beginning of the block on."""
        queue: asyncio.Queue[tuple[Happened, Record] | None] = asyncio.Queue(_PENDING)
        self._followers[queue] = project
        try:
            yield _events(queue)
        finally:
            self._followers.pop(queue, None)

    def _tell(self, happened: Happened, record: Record) -> None:
        for queue, project in list(self._followers.items()):
            if project != record.project:
                continue
            if queue.full():
                del self._followers[queue]
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait((happened, record))

    def _make_room(self) -> None:
        ended = sorted((each for each in self._kept.values() if each.completed), key=lambda each: each.pinned)
        size = sum(each.size for each in ended)
        while ended and (len(self._kept) > _MOST or size > _MOST_BYTES):
            record = ended.pop(0)
            size -= record.size
            self.remove(record)


async def _events(queue: asyncio.Queue[tuple[Happened, Record] | None]) -> AsyncIterator[tuple[Happened, Record]]:
    while (found := await queue.get()) is not None:
        yield found
