"""Automatic copies of the database: the latest, and one for each of the last days with changes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from isola.errors import IsolaError
from isola.host import Host
from isola.state import Store

COPIES = "state-copies"
LATEST = "latest.db"
_SECONDS = 300.0
_DAYS = 7
log = logging.getLogger(__name__)


class Copies:
    """Written at the start and then at most every five minutes, when something has changed."""

    def __init__(self, host: Host, directory: Path, store: Store) -> None:
        self._host = host
        self._place = directory / COPIES
        self._store = store
        self._last = 0
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the background task."""
        self._task = asyncio.get_running_loop().create_task(self._keep_on(), name="copy the state")

    def end(self) -> None:
        """Stop the background task."""
        if self._task is not None:
            self._task.cancel()

    async def keep(self) -> None:
        """Write the latest copy; the previous one becomes that of the day if there is none yet."""
        files, data = self._host.files, await self._store.copy()
        if hash(data) == self._last:
            return
        await files.make_directory(self._place, mode=0o700)
        today = self._place / f"{self._host.clock.now():%Y-%m-%d}.db"
        if await files.exists(self._place / LATEST) and not await files.exists(today):
            await files.rename(self._place / LATEST, today)
        await files.write(self._place / LATEST, data)
        self._last = hash(data)
        days = [name for name in await files.names(self._place) if name.startswith("20") and name.endswith(".db")]
        for name in days[:-_DAYS]:
            await files.remove_tree(self._place / name)

    async def _keep_on(self) -> None:
        while True:
            try:
                await self.keep()
            except IsolaError as error:
                log.warning("The database could not be copied: %s", error)
            await self._host.clock.sleep(_SECONDS)
