"""Jobs that run every minute: taking snapshots that are due, and deleting those that have expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from isola.errors import IsolaError
from isola.host.clock import Clock

Look = Callable[[datetime], Awaitable[None]]
_MINUTE = timedelta(minutes=1)
_LATE = 60
"""Most minutes for which a late job is called again; older ones are skipped."""
log = logging.getLogger(__name__)


class Due:
    """Calls each job once for every minute, concurrently: a slow job does not delay the others."""

    def __init__(self, clock: Clock, *looks: Look) -> None:
        self._clock = clock
        self._looks = looks
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Start the background tasks."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_on(look), name="look what is due") for look in self._looks]

    def end(self) -> None:
        """Stop the background tasks."""
        for task in self._tasks:
            task.cancel()

    async def _keep_on(self, look: Look) -> None:
        last = self._clock.now().replace(second=0, microsecond=0)
        while True:
            now = self._clock.now()
            await self._clock.sleep(max((last + _MINUTE - now).total_seconds(), 0.0))
            now = self._clock.now().replace(second=0, microsecond=0)
            last = max(min(last, now), now - _LATE * _MINUTE)  # the clock may have been set back or far forward
            while last < now:
                last += _MINUTE
                try:
                    await look(last)
                except IsolaError as error:
                    log.error("A scheduled job failed: %s", error)
