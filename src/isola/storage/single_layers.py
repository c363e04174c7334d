"""Image layers stored separately, for drivers that combine them at mount time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isola.errors import NotFound
from isola.host.cancellation import finish
from isola.model.image import LAYER_ID
from isola.storage.layers import LayerStore, Step, Unpack

_ALGORITHM = "sha256:"


class SingleLayers(LayerStore):
    """Each layer is unpacked separately, with overlay's whiteouts, under its own digest."""

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
            await files.sync(partial)
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
