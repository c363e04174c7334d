"""Who may write to a collection at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """A lock in order of arrival. Writes to different records may hold it together, so that they share a sync."""

    def __init__(self) -> None:
        self._gate = asyncio.Lock()
        self._together = 0
        self._none = asyncio.Event()
        self._none.set()
        self._names: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def taken(self) -> bool:
        """Whether anyone has it."""
        return self._gate.locked() or self._together > 0

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """While a decision depends on several records."""
        async with self._gate:
            await self._none.wait()
            yield

    @asynccontextmanager
    async def one(self, name: Hashable) -> AsyncIterator[None]:
        """While a decision depends on this record alone."""
        async with self._gate:
            self._together += 1
            self._none.clear()
        try:
            async with self._names.setdefault(name, asyncio.Lock()):
                yield
        finally:
            self._together -= 1
            if not self._together:
                self._none.set()
