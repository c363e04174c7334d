"""Callers that ask the same at the same time get one answer: all drivers for QEMU are probed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Joint(Generic[T]):
    """Questions under way. Nothing is kept after the answer, which may be another one the next time."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Future[T]] = {}

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[T]]) -> T:
        """The answer, or its error. It goes on for the others when one of the callers is cancelled."""
        key = (asyncio.get_running_loop(), key)
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(question())
            task.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(task)

    def _end(self, key: Hashable, done: asyncio.Future[T]) -> None:
        del self._tasks[key]
        if not done.cancelled():
            done.exception()  # all callers may have been cancelled
