"""Blocking work off the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from enum import Enum
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from isola.host.cancellation import Ending, deliver, finish_ending

P = ParamSpec("P")
T = TypeVar("T")


class Work(Enum):
    """Kinds of work that may take seconds; each has threads of its own, so that none waits for another."""

    REMOVE = "remove"
    """Trees that go."""
    MEASURE = "measure"
    """Disk usage of trees."""
    COPY = "copy"
    """Content read or written whole: digests, copies, syncs."""
    INSIDE = "inside"
    """Files of instances, on file systems that may be slow."""
    START = "start"
    """Programs that are started, on a host that may be busy."""


_Call = tuple[Callable[[], Any], Ending[Any]]


class _Crew:
    """Threads of one event loop, made when they are needed.

    An executor of ``concurrent.futures`` has a second future and several locks for each call, and a start of an
    instance makes dozens of calls.
    """

    def __init__(self, name: str, most: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._name = name
        self._most = most
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._made = 0
        self._open = 0
        """Calls without a result so far. Only the thread of the event loop uses it."""

    def begin(self, work: Callable[[], T]) -> Ending[T]:
        """Queue the call. The result must be awaited: an event loop that ends does not wait for threads."""
        done: Ending[T] = Ending(loop=self.loop)
        self._calls.put((work, done))
        self._open += 1
        if self._made < min(self._open, self._most):
            name = f"isola-{self._name}_{self._made}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
            self._made += 1
        return done

    def end(self) -> None:
        """Each thread ends after its current call."""
        for _ in range(self._made):
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            self._answer(*call)
            del call

    def _answer(self, work: Callable[[], T], done: Ending[T]) -> None:
        try:
            settle = partial(done.set_result, work())
        except BaseException as error:
            settle = partial(done.set_exception, error)
        try:
            self.loop.call_soon_threadsafe(self._settle, settle, done)
        except RuntimeError:
            pass  # the loop is closed
        finally:
            del settle, work, done  # an error would hold this frame, and the frame the error

    def _settle(self, settle: Callable[[], None], done: Ending[T]) -> None:
        self._open -= 1
        if not done.done():
            settle()


class _Threads:
    """The threads for one kind of work.

    Another event loop gets new ones: a thread keeps the namespaces of the thread that made it.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._crew: _Crew | None = None

    def begin(self, work: Callable[[], T]) -> Ending[T]:
        """Queue the call in the running event loop."""
        loop = asyncio.get_running_loop()
        if self._crew is None or self._crew.loop is not loop:
            if self._crew is not None:
                self._crew.end()
            self._crew = _Crew(self._name, self._most, loop)
        return self._crew.begin(work)


_QUICK = _Threads("quick", min(32, (os.cpu_count() or 1) + 4))
_THREADS = {Work.REMOVE: 3, Work.MEASURE: 2, Work.COPY: 3, Work.INSIDE: 8, Work.START: 4}
_LONG = {work: _Threads(work.value, size) for work, size in _THREADS.items()}


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run quick blocking calls in a thread. A cancellation waits for them: nothing continues after it has returned."""
    await deliver()
    return await finish_ending(_QUICK.begin(partial(function, *args, **kwargs)))


async def in_long_thread(work: Work, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same in a thread for this kind of work, of which there are few."""
    await deliver()
    return await finish_ending(_LONG[work].begin(partial(function, *args, **kwargs)))
