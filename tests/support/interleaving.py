"""Another writer commits at a chosen ``await`` of whatever runs: every place where a record may be held too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

_PATIENCE = 0.05
"""Seconds in which the other writer may come to its end; it does not where it has to wait for what was interrupted."""


class Interleaver:
    """Counts the suspensions of all tasks begun while it is armed, and lets ``other`` run at one of them."""

    def __init__(self) -> None:
        self.seen = 0
        self.struck: asyncio.Task[Any] | None = None
        self._armed = False
        self._at = 0
        self._other: Callable[[], Coroutine[Any, Any, Any]] | None = None

    def install(self) -> None:
        """Take part in every task of the running loop from now on."""
        asyncio.get_running_loop().set_task_factory(self._task)  # type: ignore[arg-type]  # typeshed knows no factory of coroutines alone

    def uninstall(self) -> None:
        """Take part in none any more."""
        asyncio.get_running_loop().set_task_factory(None)

    async def run(self, work: Awaitable[Any], other: Callable[[], Coroutine[Any, Any, Any]], at: int) -> Any:
        """Do ``work``; at the suspension with this number ``other`` begins and goes as far as it gets."""
        self.seen, self.struck, self._at, self._other, self._armed = 0, None, at, other, True
        try:
            return await work
        finally:
            self._armed = False
            if self.struck is not None:
                await self.struck

    @property
    def acknowledged(self) -> bool:
        """Whether the other change was begun, and told that it is done."""
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
        end = loop.time() + _PATIENCE
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
