"""Links that the kernel is removing, because the namespaces of their peers have ended."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable

from isola.errors import CommandFailed, IsolaError

log = logging.getLogger(__name__)
_PAUSES = (0.01, 0.02, 0.04, 0.08, *(0.15,) * 100)
"""Seconds between attempts, in all 15: on a busy host the kernel takes seconds to remove a network namespace."""


async def bring_up_after(bring_up: Callable[[], Awaitable[None]]) -> None:
    """Bring up a macvlan, whose MAC address its predecessor may keep until its namespace is gone.

    Raises the errors of ``bring_up``, EADDRINUSE only if the address is not free in the end.
    """

    def taken(error: Exception) -> bool:
        return isinstance(error, OSError) and error.errno == errno.EADDRINUSE

    await _retry(bring_up, taken)


async def make_alone(make: Callable[[], Awaitable[None]], parent: str) -> None:
    """Make a macvlan that has its parent for itself: its predecessor may have it until its namespace is gone.

    Raises the errors of ``make``, CommandFailed only if the parent is not free in the end.
    """

    def taken(error: Exception) -> bool:  # the kernel says no more, and who has it is seen in its namespace only
        return isinstance(error, CommandFailed) and os.strerror(errno.EINVAL) in error.evidence

    try:
        await _retry(make, taken)
    except CommandFailed as error:
        if taken(error):
            error.remedy = f"{parent} can have one link of mode passthru and no other: stop the instance that has it"
        raise


async def _retry(effect: Callable[[], Awaitable[None]], taken: Callable[[Exception], bool]) -> None:
    for pause in _PAUSES:
        try:
            await effect()
            return
        except (OSError, CommandFailed) as error:
            if not taken(error):
                raise
        await asyncio.sleep(pause)
    await effect()


class VanishingLinks:
    """Deletes them in the background, and lets callers wait for that."""

    def __init__(self, delete: Callable[[str], Awaitable[None]]) -> None:
        self._delete = delete
        """Returns when a link is gone."""
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, link: str) -> None:
        """Delete one more in the background."""
        task = asyncio.get_running_loop().create_task(self._delete_logged(link), name=f"delete {link}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def gone(self) -> None:
        """Wait until all are gone: until then the kernel may still answer for their addresses."""
        loop = asyncio.get_running_loop()
        if tasks := [task for task in self._tasks if task.get_loop() is loop]:
            await asyncio.wait(tasks)

    async def _delete_logged(self, link: str) -> None:
        try:
            await self._delete(link)
        except IsolaError as error:
            log.warning("Link %s stays until the daemon is started again: %s", link, error)
