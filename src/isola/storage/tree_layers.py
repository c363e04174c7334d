"""Directory trees: creating, copying and removing them; image layers as such trees."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import ClassVar

from isola.errors import NotFound
from isola.host import Host
from isola.host.cancellation import finish
from isola.model.image import LAYER_ID, chain_ids
from isola.storage.layers import LayerStore, Step, Unpack

_ALGORITHM = "sha256:"
_MADE_OF = ".json"
Discard = Callable[[Path], Awaitable[None]]
"""Removes a tree in the background; its name is free on return."""


class Trees:
    """Plain directories. ``partial`` is a directory on the same file system for incomplete trees."""

    instant: ClassVar = False
    """Whether a copy in the same pool takes no time."""

    def __init__(self, host: Host, partial: Path) -> None:
        self.host = host
        self.partial = partial

    async def create(self, path: Path, *, mode: int) -> None:
        """An empty tree that belongs to root."""
        await self.host.files.make_directory(path, mode=mode, owner=0)

    async def clone(self, source: Path, target: Path) -> None:
        """A copy on the same pool."""
        await self.host.files.copy_tree(source, target)

    async def copy(self, source: Path, target: Path) -> None:
        """A copy of a tree that may be on another file system."""
        await self.host.files.copy_tree(source, target)

    async def gather(self, place: Path, tree: Path) -> None:
        """Prepare an empty directory for files that will be moved into a tree."""

    async def part(self, place: Path) -> None:
        """Undo ``gather``, before a tree of its own is made in the directory."""

    async def remove(self, path: Path) -> None:
        """A tree or any other file; no effect if it does not exist."""
        await self.host.files.remove_tree(path)

    async def destroy(self, place: Path) -> None:
        """A tree, or the directory of a volume with its trees; no effect if it does not exist."""
        await self.remove(place)

    async def limit(self, path: Path, size: int | None) -> None:
        """Only called with a size by drivers with quotas."""

    async def usage(self, path: Path) -> int:
        """Disk usage in bytes."""
        return await self.host.files.disk_usage(path)

    async def settle(self, path: Path) -> None:
        """Sync a new tree to disk."""
        await self.host.files.sync(path)


class TreeLayers(LayerStore):
    """All layers of an image in one tree, of which volumes are copies.

    ``each`` also keeps the intermediate trees, so that images share common layers: useful if copies take no space.
    """

    def __init__(
        self, host: Host, place: Path, pool: str, trees: Trees, discard: Discard, *, each: bool = False
    ) -> None:
        super().__init__(host, place, pool)
        self._discard = discard
        self._trees = trees
        self._each = each

    def steps(self, layers: Sequence[str]) -> Sequence[Step]:
        chain = chain_ids(layers)
        if not chain:
            return ()
        if not self._each:
            return (Step(chain[-1], None, tuple(layers)),)
        parents = (None, *chain[:-1])
        return [Step(id, parent, (layer,)) for id, parent, layer in zip(chain, parents, layers, strict=True)]

    async def stored(self) -> tuple[str, ...]:
        """Ids of the complete trees; incomplete ones are in ``partial``."""
        names = await self.host.files.names(self.place)
        return tuple(_ALGORITHM + name for name in names if LAYER_ID.fullmatch(_ALGORITHM + name))

    async def made_of(self, id: str) -> Sequence[str]:
        """As listed in the file beside it."""
        try:
            data = await self.host.files.read(self._note(id))
            layers = json.loads(data)
        except (NotFound, ValueError):
            return ()
        return [layer for layer in layers if isinstance(layer, str)] if isinstance(layers, list) else ()

    async def _has(self, id: str) -> bool:
        return await self.host.files.exists(self.path(id))

    async def _add(self, step: Step, unpack: Unpack) -> None:
        files, partial = self.host.files, self._partial(step)
        layers = [*(await self.made_of(step.parent) if step.parent else ()), *step.layers]
        try:
            await self._trees.remove(partial)
            if step.parent is None:
                await self._trees.create(partial, mode=0o755)
            else:
                await self._trees.clone(self.path(step.parent), partial)
            for layer in step.layers:
                await self._unpack(layer, partial, unpack)
            await self._trees.settle(partial)
            await files.write(self._note(step.id), json.dumps(layers).encode())
            await files.rename(partial, self.path(step.id))
        except BaseException:
            await finish(self._trees.remove(partial))
            raise

    async def _unpack(self, layer: str, tree: Path, unpack: Unpack) -> None:
        """Unpack into a temporary directory inside the tree, and merge it with the layers below.

        Its name is random, so that no layer can contain a file with the same name.
        """
        scratch = tree / f".isola-{self.host.clock.token(16)}"
        await self.host.files.make_directory(scratch, mode=0o755)
        await unpack(layer, scratch)
        await self.host.files.merge_layer(scratch, tree)
        await self._trees.remove(scratch)

    async def _drop_partial(self, step: Step) -> None:
        await self._trees.remove(self._partial(step))

    async def _delete(self, id: str) -> None:
        """Renamed first, because a tree under its own name must be complete."""
        await self._discard(self.path(id))
        await self.host.files.remove_tree(self._note(id))

    def path(self, id: str) -> Path:
        """The tree of a chain."""
        return self.place / id.removeprefix(_ALGORITHM)

    def _note(self, id: str) -> Path:
        return self.place / f"{id.removeprefix(_ALGORITHM)}{_MADE_OF}"

    def _partial(self, step: Step) -> Path:
        return self._trees.partial / f"{self.path(step.id).name}.layer"
