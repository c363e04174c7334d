"""What a program writes, carried to a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from isola.host.sockets import Stream

_IDLE_SECONDS = 0.1


class Output:
    """Carries all a program writes to ``sink``, as a task of its own."""

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
        """The program has ended: wait for the rest of its output.

        A grandchild in the background may hold the pipe open for ever: once nothing came for a moment, that is the
        end. A slow client is waited for.
        """
        seen = -1
        while not self.task.done() and not (self._reading and seen == self._blocks):
            seen = self._blocks
            await asyncio.wait([self.task], timeout=_IDLE_SECONDS)
        self.stop()

    def stop(self) -> None:
        """Carry nothing more."""
        self.task.cancel()
