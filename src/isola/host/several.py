"""Several pieces of work at once, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
_AT_ONCE = 4


async def several(works: Iterable[Callable[[], Awaitable[T]]], most: int = _AT_ONCE) -> list[T]:
    """Their results, in order. If one fails the others are cancelled, and its error is raised when all have ended."""
    slots = asyncio.Semaphore(most)

    async def one(work: Callable[[], Awaitable[T]]) -> T:
        async with slots:
            return await work()

    tasks = [asyncio.ensure_future(one(work)) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        raise
