"""Trees that are removed in the background: renamed into ``partial`` first, so that nothing waits for many files.

After a kill the next daemon removes them. Names that the driver does not give itself belong to others, and stay.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from isola.errors import IsolaError, NotFound
from isola.host import Host
from isola.storage.tree_layers import Trees

log = logging.getLogger(__name__)
_PASSING = (".deleted", ".restored", ".replaced", ".shown")
"""Endings of names that are used once."""
_OWN = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\.(new|taken|restored|refreshed|replaced|shown|deleted|layer)"
    # Earlier versions: an id, or those of a volume and its snapshot.
    r"|[0-9a-f]{16,64}(-[0-9a-f]{32,64})?",
    re.ASCII,
)
_LONGEST = 60.0
_MOST = 32
"""Trees that wait for their removal at once; a further one is waited for."""
_SCARCE = 20
"""The part of the file system, in percent, below which new trees wait for the space of those being removed."""


def is_own(name: str) -> bool:
    """Whether the driver gives such names in ``partial``."""
    return _OWN.fullmatch(name) is not None


class Trash:
    """The removal of the trees of one pool."""

    def __init__(self, host: Host, trees: Trees) -> None:
        self._host = host
        self._trees = trees
        self.place = trees.partial
        self._removing: set[asyncio.Task[None]] = set()
        self._again: set[asyncio.Task[None]] = set()
        """Removals that have failed and are repeated."""
        self._kept: set[str] = set()

    async def discard(self, place: Path) -> None:
        """Remove a tree, or a directory with trees; its name is free on return. No effect if it does not exist."""
        gone = self.place / f"{place.name}.{self._host.clock.token(4)}.deleted"
        try:
            await self._host.files.rename(place, gone)
        except NotFound:
            return
        except BaseException:
            self.remove(gone)  # it may have been renamed, but not durably
            raise
        self.remove(gone)
        if len(self._removing) > _MOST:
            await asyncio.wait(self._removing, return_when=asyncio.FIRST_COMPLETED)

    def remove(self, gone: Path) -> None:
        """The same for a tree in ``partial``, whose name is not used again."""
        task = asyncio.get_running_loop().create_task(self._remove(gone), name=f"remove {gone.name}")
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    def keep(self, place: Path) -> None:
        """Not to be swept away."""
        self._kept.add(place.name)

    async def make_room(self) -> None:
        """Before a new tree is made: where space is scarce, wait for that of trees being removed now.

        Not for further ones, or a pool in which much is deleted would never have room.
        """
        present = set(self._removing)
        while present and await self._is_scarce():
            _, present = await asyncio.wait(present, return_when=asyncio.FIRST_COMPLETED)

    async def _is_scarce(self) -> bool:
        space = await self._host.files.space(self.place)
        return _is_scarce(space.used, space.total) or _is_scarce(space.inodes_used, space.inodes_total)

    async def settled(self) -> None:
        """Wait until everything has been removed, or has failed to be."""
        while self._removing:
            await asyncio.wait(self._removing)

    async def sweep(self) -> None:
        """At the start of a daemon: remove what an earlier one has left. Raises the errors of ``unmount``."""
        for mount in await self._host.mounts.below(self.place):
            await self._host.mounts.unmount(mount)
        for name in set(await self.names()) - self._kept:
            if name.endswith(_PASSING):
                self.remove(self.place / name)
            else:
                await self.discard(self.place / name)

    async def empty(self) -> None:
        """Remove everything, and wait for it. Raises HostFailure."""
        await self.settled()
        for name in await self.names():
            await self._trees.destroy(self.place / name)

    async def names(self) -> Sequence[str]:
        """Names in ``partial`` that the driver has given."""
        return [name for name in await self._host.files.names(self.place) if is_own(name)]

    async def _remove(self, gone: Path) -> None:
        try:
            await self._trees.destroy(gone)
        except IsolaError as error:
            log.warning("%s cannot be removed yet: %s", gone, error)
            task = asyncio.get_running_loop().create_task(self._repeat(gone), name=f"remove {gone.name}")
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    async def _repeat(self, gone: Path) -> None:
        pause = 1.0
        while True:
            await self._host.clock.sleep(pause)
            pause = min(pause * 2, _LONGEST)
            try:
                await self._trees.destroy(gone)
                return
            except IsolaError as error:
                log.warning("%s cannot be removed yet: %s", gone, error)


def _is_scarce(used: int, total: int) -> bool:
    return (total - used) * 100 < total * _SCARCE
