"""One task that applies every change of the store to the collections in memory, those of other processes too."""

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
"""Seconds until a store that could not be read is asked again."""
log = logging.getLogger(__name__)


class Followed(Protocol):
    """A copy in memory of what stands below one prefix of the store."""

    @property
    def prefix(self) -> str: ...

    @property
    def loaded_at(self) -> int:
        """Every change up to this revision is in the copy."""
        ...

    async def load(self) -> None:
        """Throw the copy away and read all anew."""
        ...

    def hear(self, change: Change) -> None:
        """Take over a change below the prefix; one that is older than what the copy holds changes nothing."""
        ...


class Follower:
    """From ``begin`` to ``end``. A store that fails meanwhile is asked again; nothing is left out."""

    def __init__(self, store: Store, clock: Clock, copies: Sequence[Followed]) -> None:
        self._store = store
        self._clock = clock
        self._copies = {copy.prefix: copy for copy in copies}
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The copies have been loaded."""
        self._task = asyncio.create_task(self._run(), name="follow the state")

    async def end(self) -> None:
        """Fine when it has not begun."""
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
        """Until the store says that it has to be read anew; returns from where on to follow then."""
        try:
            async with aclosing(self._store.watch("", since)) as watch:  # type: ignore[type-var]
                async for change in watch:
                    self._hear(change)
        except Compacted as error:
            log.info("The whole state is read again: %s", error)
            for copy in self._copies.values():
                await copy.load()
        return min(copy.loaded_at for copy in self._copies.values())

    def _hear(self, change: Change) -> None:
        prefix = "/".join(change.key.split("/", 2)[:2]) + "/"
        if (copy := self._copies.get(prefix)) is not None:
            copy.hear(change)
