"""An observer that injects a failure, a cancellation, or the end of the daemon at a chosen point."""

from __future__ import annotations

import asyncio

from isola.errors import HostFailure
from isola.operations import Operation

_ROUNDS = 1000
_GRAVES: list[asyncio.Future[None]] = []
"""Futures that dead daemons wait for; kept, so that their tasks are not collected before the test has ended."""


async def rest() -> None:
    """Wait forever, like a process that was killed."""
    grave: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    _GRAVES.append(grave)
    await grave


async def end_tasks() -> None:
    """At the end of a test: end all tasks of dead daemons, and those that they start for rollback.

    The end of the event loop cancels each task once; tasks started by that would never run.
    """
    current = asyncio.current_task()
    for _ in range(_ROUNDS):
        tasks = asyncio.all_tasks() - {current}
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
    _GRAVES.clear()


class Strike:
    """Counts the points of operations with one description, or of all, and acts at the ``number``-th, once."""

    def __init__(self, operation: str | None, number: int | None = None, action: str = "fail") -> None:
        self.operation = operation
        self.number = number
        self.action = action
        self.points: list[str] = []
        self.hit = asyncio.Event()

    async def reached(self, operation: Operation, point: str) -> None:
        """Record the point, and act."""
        if self.operation not in (None, operation.description):
            return
        self.points.append(point)
        if len(self.points) - 1 != self.number:
            return
        self.hit.set()
        if self.action == "crash":
            await rest()
        elif self.action == "cancel":
            if operation.may_cancel:
                operation.cancel()
        else:
            raise HostFailure(f"Injected failure at {point}")


class Fate:
    """The observer of a daemon that ends: after its death it has no further effects on the host."""

    def __init__(self, strike: Strike | None = None) -> None:
        self.strike = strike
        self.dead = False

    async def struck(self) -> None:
        """Whether its strike has acted."""
        if self.strike is not None:
            await self.strike.hit.wait()

    async def reached(self, operation: Operation, point: str) -> None:
        """Waits forever once the daemon is dead."""
        if self.strike is not None and not self.dead:
            await self.strike.reached(operation, point)
        if self.dead:
            await rest()
