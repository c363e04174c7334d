"""Image layers stored separately, for drivers that combine them at mount time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from isola.errors import NotFound
from isola.host import Host
from isola.host.cancellation import finish
from isola.model.image import LAYER_ID
from isola.storage.layers import LayerStore, Step, Unpack

_ALGORITHM = "sha256:"


class _Syncing:
    """Syncs of one file system: those that are asked for while one runs become a single further one."""

    def __init__(self, host: Host, place: Path) -> None:
        self._host = host
        self._place = place
        self._turn = asyncio.Lock()
        self._asked = self._done = 0

    async def sync(self) -> None:
        """What was written before is on disk on return."""
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._done < mine:
                covered = self._asked
                await self._host.files.sync(self._place)
                self._done = covered


class SingleLayers(LayerStore):
    """Each layer is unpacked separately, with overlay's whiteouts, under its own digest."""

    def __init__(self, host: Host, place: Path, pool: str) -> None:
        super().__init__(host, place, pool)
        self._syncing = _Syncing(host, place)

    def steps(self, layers: Sequence[str]) -> Sequence[Step]:
        return [Step(layer, None, (layer,)) for layer in layers]

    def path(self, id: str) -> Path:
        """The directory of a layer."""
        return self.place / id.removeprefix(_ALGORITHM)

    async def stored(self) -> tuple[str, ...]:
        """Digests."""
        names = await self.host.files.names(self.place)
        return tuple(_ALGORITHM + name for name in names if LAYER_ID.fullmatch(_ALGORITHM + name))

    async def made_of(self, id: str) -> Sequence[str]:
        return (id,)

    async def _has(self, id: str) -> bool:
        return await self.host.files.exists(self.path(id))

    async def _add(self, step: Step, unpack: Unpack) -> None:
        files, partial = self.host.files, self._partial(step.id)
        try:
            await files.remove_tree(partial)
            await files.make_directory(partial, mode=0o755)
            await unpack(step.id, partial)
            await self._syncing.sync()
            await files.rename(partial, self.path(step.id))
        except BaseException:
            await finish(files.remove_tree(partial))
            raise

    async def _drop_partial(self, step: Step) -> None:
        await self.host.files.remove_tree(self._partial(step.id))

    async def _delete(self, id: str) -> None:
        """Renames it first, because a layer under its own name must be complete."""
        gone = self.place / f".deleted-{self.path(id).name}"
        await self.host.files.remove_tree(gone)
        try:
            await self.host.files.rename(self.path(id), gone)
        except NotFound:
            return
        await self.host.files.remove_tree(gone)

    def _partial(self, id: str) -> Path:
        return self.place / f".partial-{self.path(id).name}"
