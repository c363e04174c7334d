"""Blocking work off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from isola.host.cancellation import deliver, finish

P = ParamSpec("P")
T = TypeVar("T")
_long_work = ThreadPoolExecutor(2, thread_name_prefix="isola-trees")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run quick blocking calls in a thread. A cancellation waits for them: nothing goes on behind the caller's back."""
    await deliver()
    return await finish(asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs)))


async def in_long_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for work of seconds (whole trees), in threads of its own so that quick calls never queue behind it."""
    await deliver()
    return await finish(asyncio.get_running_loop().run_in_executor(_long_work, partial(function, *args, **kwargs)))
