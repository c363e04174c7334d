"""Forwarding of a program's output to a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from isola.host.sockets import Stream

_IDLE_SECONDS = 0.1


class Output:
    """A task that forwards a program's output to ``sink``."""

    def __init__(self, stream: Stream, sink: Callable[[bytes], Awaitable[object]]) -> None:
        self._stream = stream
        self._sink = sink
        self._blocks = 0
        self._reading = False
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while data := await self._read():
            self._blocks += 1
            await self._sink(data)

    async def _read(self) -> bytes:
        self._reading = True
        data = await self._stream.read()
        self._reading = False
        return data

    async def finish(self) -> None:
        """Wait for the remaining output after the program has ended.

        A background process may keep the pipe open, so the output ends when nothing arrives for a moment. A
        slow
        client is waited for.
        """
        seen = -1
        while not self.task.done() and not (self._reading and seen == self._blocks):
            seen = self._blocks
            await asyncio.wait([self.task], timeout=_IDLE_SECONDS)
        self.stop()

    def stop(self) -> None:
        """Stop forwarding."""
        self.task.cancel()
