"""What a client of BuildKit shows of a build: vertices, their output, and how they have ended."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from isola.doors.docker.buildkit.wire import message, timestamp
from isola.model.build import BuildEvent, BuildEventKind

_MOST_WAITING = 4 << 20
"""Bytes that may wait for the client; what a program writes then waits, too."""
_STDOUT, _STDERR = 1, 2


@dataclass(slots=True)
class _Vertex:
    digest: str
    name: str
    started: int
    cached: bool = False


class Progress:
    """Of one build. ``now`` is in nanoseconds since 1970."""

    def __init__(self, ref: str, now: Callable[[], int]) -> None:
        self._ref = ref
        self._now = now
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._read = asyncio.Event()
        self._ended = False
        self._followed = False
        self._count = 0
        self._stages: dict[int, _Vertex] = {}
        self._other: _Vertex | None = None

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
                self._news.clear()
                await self._news.wait()
        finally:
            self._followed = False
            self._read.set()

    def end(self) -> None:
        """Nothing more will be told."""
        self._ended = True
        self._news.set()

    async def begin(self, name: str) -> str:
        """A vertex that is no step of the Dockerfile; returns its digest."""
        vertex = self._vertex(name)
        self._other = vertex
        await self._put({1: self._shown(vertex)})
        return vertex.digest

    async def done(self, error: str = "") -> None:
        """The same has ended."""
        if self._other is not None:
            await self._put({1: self._shown(self._other, ended=True, error=error)})

    async def status(self, vertex: str, text: str) -> None:
        """A line of such a vertex that is done at once."""
        at = timestamp(self._now())
        await self._put({2: message({1: text, 2: vertex, 6: at, 7: at, 8: at})})

    async def told(self, event: BuildEvent) -> None:
        """An event of the build itself."""
        open = self._stages.get(event.stage)
        if event.kind is BuildEventKind.STEP:
            await self._step(event)
        elif event.kind is BuildEventKind.OUTPUT:
            await self._output(open, event)
        elif event.kind is BuildEventKind.WARNING:
            await self._put({4: message({1: open.digest if open else "", 2: 1, 3: event.text.encode()})})
        elif event.kind is BuildEventKind.CACHED and open is not None:
            open.cached = True
        elif event.kind is BuildEventKind.RESULT and open is not None:
            await self._close(event.stage)

    async def failed(self, error: str) -> None:
        """All steps that were under way have ended so."""
        for stage in list(self._stages):
            await self._close(stage, error)

    async def _step(self, event: BuildEvent) -> None:
        await self._close(event.stage)
        prefix = f"[{event.number}/{event.total}] " if event.number else "[trigger] "
        vertex = self._stages[event.stage] = self._vertex(prefix + event.text)
        await self._put({1: self._shown(vertex)})

    async def _output(self, open: _Vertex | None, event: BuildEvent) -> None:
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

    def _vertex(self, name: str) -> _Vertex:
        self._count += 1
        digest = hashlib.sha256(f"{self._ref} {self._count}".encode()).hexdigest()
        return _Vertex(f"sha256:{digest}", name, self._now())

    def _shown(self, vertex: _Vertex, *, ended: bool = False, error: str = "") -> bytes:
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
        if lossy and self._size > _MOST_WAITING:  # no task follows
            return
        data = message(response)
        self._waiting.append(data)
        self._size += len(data)
        self._news.set()
