"""Blocking work off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import ParamSpec, TypeVar

from isola.host.cancellation import deliver, finish

P = ParamSpec("P")
T = TypeVar("T")


class Work(Enum):
    """Kinds of work that may take seconds; each has threads of its own, so that none waits for another."""

    REMOVE = "remove"
    """Trees that go."""
    MEASURE = "measure"
    """The space that trees take."""
    COPY = "copy"
    """Content read or written whole: digests, copies, syncs."""
    INSIDE = "inside"
    """Files of instances, on file systems that may be slow."""
    START = "start"
    """Programs that are started, on a host that may be busy."""


_THREADS = {Work.REMOVE: 3, Work.MEASURE: 2, Work.COPY: 3, Work.INSIDE: 8, Work.START: 4}
_pools = {work: ThreadPoolExecutor(size, thread_name_prefix=f"isola-{work.value}") for work, size in _THREADS.items()}


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run quick blocking calls in a thread. A cancellation waits for them: nothing goes on behind the caller's back."""
    await deliver()
    return await finish(asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs)))


async def in_long_thread(work: Work, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same in a thread for this kind of work, of which there are few."""
    await deliver()
    return await finish(asyncio.get_running_loop().run_in_executor(_pools[work], partial(function, *args, **kwargs)))
