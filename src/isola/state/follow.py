"""A task that applies all changes of the store, including those of other processes, to the cached collections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import Protocol

from isola.errors import Compacted, IsolaError
from isola.host.clock import Clock
from isola.state.store import Change, Store

_AGAIN_AFTER = 1.0
"""Seconds between attempts to read a store that has failed."""
log = logging.getLogger(__name__)


class Followed(Protocol):
    """A cache of all entries below one prefix of the store."""

    @property
    def prefix(self) -> str: ...

    @property
    def loaded_at(self) -> int:
        """Every change up to this revision is in the cache."""
        ...

    async def load(self) -> None:
        """Discard the cache and read all entries again."""
        ...

    def apply(self, change: Change) -> None:
        """Apply a change below the prefix; a change that is older than the cached value is ignored."""
        ...


class Follower:
    """Runs from ``begin`` to ``end``. After a failure of the store it continues without missing a change."""

    def __init__(self, store: Store, clock: Clock, copies: Sequence[Followed]) -> None:
        self._store = store
        self._clock = clock
        self._copies = {copy.prefix: copy for copy in copies}
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Must be called after the caches have been loaded."""
        self._task = asyncio.create_task(self._run(), name="follow the state")

    async def end(self) -> None:
        """No effect if it has not begun."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        since: int | None = min((copy.loaded_at for copy in self._copies.values()), default=None)
        while since is not None:
            try:
                since = await self._follow(since)
            except IsolaError as error:
                log.warning("The state cannot be followed for now: %s", error)
                await self._clock.sleep(_AGAIN_AFTER)

    async def _follow(self, since: int) -> int:
        """Apply changes until the store requires a full read; returns the revision at which to continue."""
        try:
            async with aclosing(self._store.watch("", since)) as watch:  # type: ignore[type-var]
                async for change in watch:
                    self._apply(change)
        except Compacted as error:
            log.info("All records are read again: %s", error)
            for copy in self._copies.values():
                await copy.load()
        return min(copy.loaded_at for copy in self._copies.values())

    def _apply(self, change: Change) -> None:
        prefix = "/".join(change.key.split("/", 2)[:2]) + "/"
        if (copy := self._copies.get(prefix)) is not None:
            copy.apply(change)
