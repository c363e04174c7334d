"""Several pieces of work at once: bounded, in order, and none goes on after a failure."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from isola.errors import HostFailure
from isola.host.several import several


class Counted:
    """Counts the pieces of work that are under way."""

    def __init__(self) -> None:
        self.now = self.most = self.done = 0

    async def work(self, number: int, *, fails: bool = False) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if fails:
                raise HostFailure(f"number {number}")
            await asyncio.sleep(0)
            self.done += 1
            return number
        finally:
            self.now -= 1


async def test_results_are_in_order_and_there_is_a_bound() -> None:
    counted = Counted()
    assert await several([partial(counted.work, number) for number in range(20)], most=3) == list(range(20))
    assert counted.most == 3


async def test_a_failure_ends_the_others() -> None:
    counted = Counted()
    works = [partial(counted.work, number, fails=number == 1) for number in range(20)]
    with pytest.raises(HostFailure, match="number 1"):
        await several(works, most=3)
    assert (counted.now, counted.done < 5) == (0, True)
    assert await several([]) == []


async def test_a_cancellation_ends_all() -> None:
    counted = Counted()
    task = asyncio.ensure_future(several([partial(counted.work, number) for number in range(20)], most=2))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counted.now == 0
