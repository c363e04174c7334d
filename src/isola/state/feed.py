"""The bounded queue of changes for one watcher of a store."""

from __future__ import annotations

import asyncio
from collections import deque

from isola.errors import Compacted
from isola.state.store import Change


class Feed:
    """Changes below a prefix, in order. A watcher that falls too far behind has to read everything again."""

    def __init__(self, prefix: str, most: int) -> None:
        self._prefix = prefix
        self._most = most
        self._waiting: deque[Change] = deque()
        self._something = asyncio.Event()
        self._overrun = False

    def tell(self, change: Change) -> None:
        """Queue a change, without waiting."""
        if change.key.startswith(self._prefix):
            if len(self._waiting) >= self._most:
                self.overrun()
            else:
                self._waiting.append(change)
                self._something.set()

    def overrun(self) -> None:
        """Changes were dropped: the next call of ``next`` raises Compacted."""
        self._overrun = True
        self._waiting.clear()
        self._something.set()

    async def next(self) -> Change:
        """Wait for the next one. Raises Compacted."""
        await self._something.wait()
        if self._overrun:
            raise too_old()
        change = self._waiting.popleft()
        if not self._waiting:
            self._something.clear()
        return change


def too_old() -> Compacted:
    """The error for a watcher that requests changes which are no longer in the log."""
    return Compacted("Changes since that revision are no longer in the log", remedy="read everything again")
