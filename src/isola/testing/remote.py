"""A remote source of blobs that can break off, not support resuming, stall, or send wrong data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from isola.errors import HostFailure
from isola.images.remote import Stream


@dataclass
class FakeBlobSource:
    """Sends ``content`` in blocks; records the offset of each connection."""

    content: bytes
    block: int = 4
    resumes: bool = True
    breaks: list[int] = field(default_factory=list)
    """Bytes after which the next connections break."""
    error: Exception | None = None
    """Raised instead of a connection."""
    gate: asyncio.Event | None = None
    """An event for which every block waits."""
    opened: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[Stream]:
        """A connection."""
        if self.error is not None:
            raise self.error
        start = offset if self.resumes else 0
        self.opened.append(offset)
        yield Stream(start, self._blocks(start, self.breaks.pop(0) if self.breaks else None))

    async def _blocks(self, start: int, lasts: int | None) -> AsyncIterator[bytes]:
        sent = 0
        for position in range(start, len(self.content), self.block):
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(0)
            if lasts is not None and sent >= lasts:
                raise HostFailure("The connection broke")
            block = self.content[position : position + self.block]
            sent += len(block)
            yield block
