"""Lets another writer commit at a chosen ``await`` of the code under test, to find outdated records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

_TIMEOUT = 0.05
"""Seconds that the other writer has to finish; it does not if it has to wait for the interrupted code."""


class Interleaver:
    """Counts the suspensions of all tasks started while it is armed, and runs ``other`` at one of them."""

    def __init__(self) -> None:
        self.seen = 0
        self.struck: asyncio.Task[Any] | None = None
        self._armed = False
        self._at = 0
        self._other: Callable[[], Coroutine[Any, Any, Any]] | None = None

    def suspensions(self) -> Iterator[int]:
        """For ``run``, which is called once for each number: 1, 2, ..., until the work ends before that suspension."""
        loop, at = asyncio.get_running_loop(), 0
        loop.set_task_factory(self._task)  # type: ignore[arg-type]  # typeshed knows no factory of coroutines alone
        while at == 0 or self.struck is not None:
            at += 1
            yield at
        loop.set_task_factory(None)

    async def run(self, work: Awaitable[Any], other: Callable[[], Coroutine[Any, Any, Any]], at: int) -> Any:
        """Run ``work``; at the suspension with this number, run ``other`` as far as possible."""
        self.seen, self.struck, self._at, self._other, self._armed = 0, None, at, other, True
        try:
            return await work
        finally:
            self._armed = False
            if self.struck is not None:
                await self.struck

    @property
    def acknowledged(self) -> bool:
        """Whether the other change was started and acknowledged."""
        return self.struck is not None and bool(self.struck.result())

    def _task(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:
        return asyncio.Task(self._stepped(work) if self._armed else work, loop=loop, **more)

    async def _stepped(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await _Steps(self, work)

    def pause(self) -> Generator[Any, None, None]:
        """Called at every suspension."""
        if not self._armed:
            return
        self.seen += 1
        if self.seen != self._at or self._other is None:
            return
        self._armed = False
        loop = asyncio.get_running_loop()
        self.struck = loop.create_task(self._other())
        end = loop.time() + _TIMEOUT
        while not self.struck.done() and loop.time() < end:
            yield


class _Steps:
    def __init__(self, interleaver: Interleaver, work: Coroutine[Any, Any, Any]) -> None:
        self._interleaver = interleaver
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        try:
            waiting = next(steps)
        except StopIteration as end:
            return end.value
        while True:
            try:
                yield from self._interleaver.pause()
                if asyncio.isfuture(waiting):
                    waiting._asyncio_future_blocking = True
                sent = yield waiting
            except BaseException as error:
                step: Callable[[], Any] = lambda error=error: steps.throw(error)  # type: ignore[misc]  # noqa: E731
            else:
                step = lambda sent=sent: steps.send(sent)  # type: ignore[misc]  # noqa: E731
            try:
                waiting = step()
            except StopIteration as end:
                return end.value
