"""Work that must end before a cancellation is delivered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


async def deliver() -> None:
    """Deliver a cancellation that was requested during ``finish``; does nothing otherwise."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        await asyncio.sleep(0)


async def absorb() -> None:
    """Discard a cancellation that came too late, because the result is durable already."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        task.uncancel()


class Ending(asyncio.Future[T]):
    """Of work that cannot be cancelled: a cancellation of the task that awaits it is raised there at its end."""

    def cancel(self, msg: object = None) -> bool:
        """Have the task remember it."""
        return False


async def finish_ending(work: Ending[T]) -> T:
    """``finish`` for an ``Ending``, without a second future and another turn of the event loop."""
    try:
        return await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            raise
        task.uncancel()
        task.cancel()
        return work.result()
    finally:
        del work  # otherwise an error and this frame would refer to each other until garbage collection


async def finish(work: Awaitable[T]) -> T:
    """Finish ``work`` even if the caller is cancelled meanwhile, and return its result.

    The cancellation is delivered at the caller's next ``await``, so that the caller can first record
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
    if cancelled and (task := asyncio.current_task()) is not None:
        task.uncancel()
        task.cancel()
    try:
        return future.result()
    finally:
        del future, work  # otherwise an error and this frame would refer to each other until garbage collection


async def both(one: Awaitable[T], other: Awaitable[U]) -> tuple[T, U]:
    """The results of two works that run concurrently. It returns when both have ended, also after a failure.

    If both fail, the error of the first is raised. A cancellation cancels both.
    """
    first, second = asyncio.ensure_future(one), asyncio.ensure_future(other)
    try:
        await asyncio.wait((first, second))
    except asyncio.CancelledError:
        first.cancel()
        second.cancel()
        await finish(asyncio.gather(first, second, return_exceptions=True))
        raise
    if not second.cancelled():
        second.exception()  # retrieved, or asyncio would log it
    return first.result(), second.result()


async def all_done(*works: Awaitable[object]) -> None:
    """Run them concurrently and return when all have ended, also after a failure or a cancellation.

    If several fail, the error of the first in their order is raised. A cancellation is delivered as by ``finish``.
    """
    for outcome in await finish(asyncio.gather(*works, return_exceptions=True)):
        if isinstance(outcome, BaseException):
            raise outcome
