"""An observer that strikes at a point a test chooses: it fails, cancels, or ends the daemon there."""

from __future__ import annotations

import asyncio

from isola.errors import HostFailure
from isola.operations import Operation

_ROUNDS = 1000
_GRAVES: list[asyncio.Future[None]] = []
"""What dead daemons wait for; kept, so that nothing of them is tidied up before the test has ended."""


async def rest() -> None:
    """For ever, as a process that was killed."""
    grave: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    _GRAVES.append(grave)
    await grave


async def end_tasks() -> None:
    """At the end of a test: what dead daemons had begun ends here, and so does what it begins in order to undo.

    The end of the event loop cancels each task once; one that is begun by that would never run.
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
    """Counts the points of operations of one description, or of all, and acts at the ``number``-th of them, once."""

    def __init__(self, operation: str | None, number: int | None = None, action: str = "fail") -> None:
        self.operation = operation
        self.number = number
        self.action = action
        self.points: list[str] = []
        self.hit = asyncio.Event()

    async def reached(self, operation: Operation, point: str) -> None:
        """Note the point, and strike."""
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
    """The observer of a daemon that ends: after its death nothing it does reaches the host any more."""

    def __init__(self, strike: Strike | None = None) -> None:
        self.strike = strike
        self.dead = False

    async def struck(self) -> None:
        """Once its strike has hit."""
        if self.strike is not None:
            await self.strike.hit.wait()

    async def reached(self, operation: Operation, point: str) -> None:
        """For ever, once it is dead."""
        if self.strike is not None and not self.dead:
            await self.strike.reached(operation, point)
        if self.dead:
            await rest()
