"""Work that must end before a cancellation is let through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def deliver() -> None:
    """Let a cancellation through that came while something was being finished; costs nothing otherwise."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        await asyncio.sleep(0)


async def absorb() -> None:
    """Void a cancellation that came too late: what it would have prevented has been made durable meanwhile."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        task.uncancel()


async def finish(work: Awaitable[T]) -> T:
    """Finish ``work`` even if the caller is cancelled meanwhile, and return its result.

    Such a cancellation is delivered at the caller's next ``await``, so that the caller can first take note of
    what has happened. Raises what ``work`` raises.
    """
    if asyncio.iscoroutine(work):
        try:
            await deliver()
        except asyncio.CancelledError:
            work.close()
            raise
    future = asyncio.ensure_future(work)
    cancelled = False
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.cancelled():
                raise
            cancelled = True
        except Exception:
            break
    task = asyncio.current_task()
    if cancelled and task is not None:
        task.uncancel()
        task.cancel()
    try:
        return future.result()
    finally:
        del future, work  # an error would hold this frame, and the frame the error, until the collector comes


async def all_done(*works: Awaitable[object]) -> None:
    """Do them concurrently and return when all have ended, after a failure or a cancellation too.

    Raises the error of the first in their order that failed. A cancellation is delivered as by ``finish``.
    """
    for outcome in await finish(asyncio.gather(*works, return_exceptions=True)):
        if isinstance(outcome, BaseException):
            raise outcome
