"""What a client of BuildKit shows of a build: vertices, their output, and how they have ended."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from itertools import takewhile

from isola.doors.docker.buildkit.wire import message, timestamp
from isola.model.build import BuildEvent, BuildEventKind

_MOST_WAITING = 4 << 20
"""Bytes that may wait for the client; what a program writes then waits, too."""
_MOST_KEPT = 2 << 20
"""Bytes that are kept for who asks later; of more output the beginning."""
_STDOUT, _STDERR = 1, 2
_ALIKE = 3
"""Characters."""
_MARK = "[Warning] "
"""Of warnings among other lines; these clients list them apart."""


@dataclass(slots=True)
class Vertex:
    """A step, or what is no step of the Dockerfile."""

    digest: str
    name: str
    started: int
    cached: bool = False


@dataclass(slots=True)
class Counts:
    """Of vertices, and of warnings."""

    total: int = 0
    completed: int = 0
    cached: int = 0
    warnings: int = 0


class Progress:
    """Of one build. ``now`` is in nanoseconds since 1970."""

    def __init__(self, ref: str, now: Callable[[], int]) -> None:
        self.counts = Counts()
        self.kept = 0
        """Bytes in memory once it has ended."""
        self._ref = ref
        self._now = now
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._log: list[bytes] = []
        self._news = asyncio.Event()
        self._read = asyncio.Event()
        self._ended = False
        self._followed = False
        self._stages: dict[int, Vertex] = {}
        self._under_way: dict[int, BuildEvent] = {}
        self.source = ("", b"")
        """Name and text of the Dockerfile, once the client has sent it."""

    async def responses(self) -> AsyncIterator[bytes]:
        """Messages ``StatusResponse``, until the build has ended."""
        self._followed = True
        try:
            while True:
                while self._waiting:
                    found = self._waiting.popleft()
                    self._size -= len(found)
                    self._read.set()
                    yield found
                if self._ended:
                    return
                await self._news.wait()
        finally:
            self._followed = False
            self._read.set()

    async def again(self) -> AsyncIterator[bytes]:
        """The same for one more client, from the beginning."""
        at = 0
        while True:
            while at < len(self._log):
                at += 1
                yield self._log[at - 1]
            if self._ended:
                return
            await self._news.wait()

    def end(self) -> None:
        """No more events follow."""
        self._ended = True
        self._tell_all()

    async def begin(self, name: str) -> Vertex:
        """A vertex that is no step of the Dockerfile."""
        vertex = self._vertex(name)
        await self._put({1: self._shown(vertex)})
        return vertex

    async def done(self, vertex: Vertex, error: str = "") -> None:
        """The same has ended."""
        await self._put({1: self._shown(vertex, ended=True, error=error)})

    async def status(self, vertex: Vertex, text: str, size: int = 0) -> None:
        """A line of such a vertex that is done at once; with bytes that were moved."""
        at = timestamp(self._now())
        started = timestamp(vertex.started) if size else at
        await self._put({2: message({1: text, 2: vertex.digest, 4: size, 6: at, 7: started, 8: at})})

    def line(self, command: str = "") -> int:
        """Of the instruction under way that has failed, with a program's command if it has one; 0: any of several."""
        steps = list(self._under_way.values())
        if len(steps) > 1 and command:  # which ends as its instruction does
            alike = [_common_end(each.text, command) for each in steps]
            steps = [each for each, size in zip(steps, alike, strict=True) if size == max(alike) >= _ALIKE]
        return steps[0].line if len(steps) == 1 else 0

    async def told(self, event: BuildEvent) -> None:
        """An event of the build itself."""
        open = self._stages.get(event.stage)
        if event.kind is BuildEventKind.STEP:
            self._under_way[event.stage] = event
        elif event.kind is BuildEventKind.RESULT:
            self._under_way.pop(event.stage, None)
        if event.kind is BuildEventKind.STEP:
            await self._step(event)
        elif event.kind is BuildEventKind.EXPORT:
            await self._step(replace(event, label=event.text))
        elif event.kind is BuildEventKind.OUTPUT:
            await self._output(open, event)
        elif event.kind is BuildEventKind.WARNING:
            self.counts.warnings += 1
            await self._put(
                {4: message({1: open.digest if open else "", 2: 1, 3: event.text.removeprefix(_MARK).encode()})}
            )
        elif event.kind is BuildEventKind.CACHED and open is not None:
            open.cached = True
            self.counts.cached += 1
        elif event.kind is BuildEventKind.RESULT and open is not None:
            await self._close(event.stage)

    async def failed(self, error: str) -> None:
        """All steps that were under way have ended so."""
        for stage in list(self._stages):
            await self._close(stage, error)

    async def _step(self, event: BuildEvent) -> None:
        await self._close(event.stage)
        if event.label:
            vertex = self._stages[event.stage] = self._vertex(event.label)
            await self._put({1: self._shown(vertex)})

    async def _output(self, open: Vertex | None, event: BuildEvent) -> None:
        if open is None:
            return
        while self._followed and self._size > _MOST_WAITING:
            self._read.clear()
            await self._read.wait()
        stream = _STDERR if event.stderr else _STDOUT
        log = message({1: open.digest, 2: timestamp(self._now()), 3: stream, 4: event.data})
        await self._put({3: log}, lossy=True)

    async def _close(self, stage: int, error: str = "") -> None:
        vertex = self._stages.pop(stage, None)
        if vertex is not None:
            await self._put({1: self._shown(vertex, ended=True, error=error)})

    def _vertex(self, name: str) -> Vertex:
        self.counts.total += 1
        digest = hashlib.sha256(f"{self._ref} {self.counts.total}".encode()).hexdigest()
        return Vertex(f"sha256:{digest}", name, self._now())

    def _shown(self, vertex: Vertex, *, ended: bool = False, error: str = "") -> bytes:
        self.counts.completed += ended
        return message(
            {
                1: vertex.digest,
                3: vertex.name,
                4: vertex.cached,
                5: timestamp(vertex.started),
                6: timestamp(self._now()) if ended else None,
                7: error,
            }
        )

    async def _put(self, response: dict[int, bytes], *, lossy: bool = False) -> None:
        data = message(response)
        if not lossy or self.kept + len(data) <= _MOST_KEPT:
            self._log.append(data)
            self.kept += len(data)
        if not lossy or self._size <= _MOST_WAITING:  # more than that only where no task follows
            self._waiting.append(data)
            self._size += len(data)
        self._tell_all()

    def _tell_all(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _common_end(one: str, other: str) -> int:
    """How many characters."""
    pairs = zip(reversed(one.rstrip()), reversed(other.rstrip()), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
