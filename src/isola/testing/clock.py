"""A clock that a test advances, and reproducible random values."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from datetime import UTC, datetime, timedelta

_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that only ``advance`` moves; with ``skips``, sleeping advances it, so that tests never wait."""

    def __init__(self, *, start: datetime = _BEGINNING, skips: bool = False) -> None:
        self._start = start
        self._passed = 0.0
        self._skips = skips
        self._drawn = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._asleep = 0

    def now(self) -> datetime:
        """The start time plus the time that has passed."""
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Seconds passed."""
        return self._passed

    async def sleep(self, seconds: float) -> None:
        """Return once a test has advanced the clock by this time."""
        if self._skips:
            self._passed += max(seconds, 0)
        elif seconds > 0:
            self._asleep += 1
            waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (self._passed + seconds, self._asleep, waker))
            await waker
        await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Advance the clock; sleepers wake one after the other, each at its time, and run until they wait again."""
        end = self._passed + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._passed, _, waker = heapq.heappop(self._sleepers)
            if not waker.done():
                waker.set_result(None)
                await _settle()
        self._passed = end

    @property
    def sleepers(self) -> int:
        """The number of tasks that sleep."""
        return sum(not waker.done() for _, _, waker in self._sleepers)

    def token(self, size: int = 32) -> str:
        """A unique token that is the same in every run."""
        self._drawn += 1
        return hashlib.shake_256(str(self._drawn).encode()).hexdigest(size)

    def uuid(self) -> str:
        """A unique UUID that is the same in every run."""
        text = self.token(16)
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
