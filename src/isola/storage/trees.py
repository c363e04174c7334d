"""Volumes as directory trees that are copied completely: the driver ``dir``, and common code of other drivers.

Layout of a pool::

    layers/<hex>/              the tree of an image's layers, with the ids of the image; read-only once complete
        layers/<hex>.json          the layers of which it consists
    volumes/<id>/data          the tree of an instance's root, with its ids inside; snapshots/<id> beside it
    volumes/<id>/surveys/<id>  what a restore of that snapshot needs to know; see replacing.py
    custom/<id>/data           the same of a custom volume
    mounts/<id>...             mount points, with shifted ids
        descriptions/<id>.json     description of the instance, from which a lost record can be restored
        partial/                   incomplete and deleted trees, which are removed in the background

Only root may enter ``layers``, ``volumes``, ``custom`` and ``partial``: they contain foreign setuid programs
with real ids. A mount point can be traversed only by the root user of its instance.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from isola.errors import InvalidInput, NotFound
from isola.host import Host
from isola.host.archive.archives import Comparison
from isola.host.building import NewDirectory
from isola.host.cancellation import finish
from isola.host.mirrors import Trust
from isola.host.mounts import BindMount
from isola.model.identity import IdRange
from isola.model.storage import Pool, Space, Volume
from isola.storage.driver import VolumeDriver
from isola.storage.foreign import foreign_files
from isola.storage.layers import LayerStore
from isola.storage.place import clear_trial
from isola.storage.replacing import Replacements, survey_in, survey_of
from isola.storage.trash import Trash
from isola.storage.tree_layers import TreeLayers, Trees

Fill = Callable[[Path], Awaitable[None]]
log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_PLACES = {"container": "volumes", "custom": "custom"}


class TreeDriver(VolumeDriver):
    """A pool of trees, which are created, copied and removed by ``trees``."""

    trees: Trees
    own_names: ClassVar[tuple[str, ...]] = ()
    """Names that the driver uses in its directory, beside those above."""

    def __init__(self, host: Host, pool: Pool, directory: Path, base: Path | None = None) -> None:
        super().__init__(host, pool, directory)
        self.base = base or directory
        self._partial = self.base / "partial"
        self._mounts = self.base / "mounts"
        self.trees = self._make_trees()
        self._trash = Trash(host, self.trees)
        self._replacements = Replacements(host, self.trees, self._trash, self.base)
        self.layers = self._make_layers()

    def _make_trees(self) -> Trees:
        return Trees(self.host, self._partial)

    def _make_layers(self) -> LayerStore:
        return TreeLayers(self.host, self.base / "layers", self.pool.name, self.trees, self._trash.discard)

    @property
    def place(self) -> Path:
        return self.base

    # --- the pool -----------------------------------------------------------------------------------------------

    async def _create_pool(self) -> None:
        await self.host.files.make_directory(self.base)
        await self._make_places()
        below = (self.base, *self.base.parents) if self.base.is_relative_to(self.directory) else (self.base,)
        await self.host.files.flush(*below[:3])

    async def _make_places(self) -> None:
        """Create the pool's directories; a pool of an earlier version lacks some of them."""
        files = self.host.files
        await files.make_directory(*(self.base / name for name in self._private()), mode=0o700, owner=0)
        await files.make_directory(self._mounts, mode=0o711)
        await files.spread(self._partial, self._roots(), self.base / "custom", self.base / "layers")
        await files.flush(self.base / "layers", self._roots(), self.base / "custom", self._mounts, self.base)

    def _private(self) -> tuple[str, ...]:
        """Directories that only root can enter."""
        return ("layers", "volumes", "custom", "partial")

    def _roots(self) -> Path:
        return self.base / _PLACES["container"]

    async def open(self) -> None:
        """Creates directories that an older version did not have."""
        if await self.host.files.exists(self.base):
            await self._make_places()
            await self._make_descriptions()

    async def foreign(self) -> Sequence[Path]:
        return await foreign_files(self.host, self.base, self.directory, self.own_names)

    async def _delete_pool(self) -> None:
        await self._delete_content()
        await self.host.files.remove_tree(self.directory)
        await self.host.files.flush(self.directory.parent)

    async def _delete_content(self) -> None:
        await self._unmount_below(self.base)
        for name in ("volumes", "custom"):
            for id in await self.host.files.names(self.base / name):
                await self.trees.destroy(self.base / name / id)
        for id in await self.host.files.names(self.base / "layers"):
            await self.trees.remove(self.base / "layers" / id)
        await self._trash.empty()
        for name in ("layers", "volumes", "custom", "mounts", "partial", "descriptions"):
            await self.host.files.remove_tree(self.base / name)
        await self.host.files.flush(self.base)

    async def _unmount_below(self, directory: Path) -> None:
        for mount in await self.host.mounts.below(directory):
            if mount != self.base:
                await self.host.mounts.unmount(mount)

    async def clean(self) -> None:
        """Removes incomplete and deleted trees, and mounts that belong to no volume."""
        await self._replacements.complete_all()
        await self._trash.sweep()

    async def settled(self) -> None:
        await self._trash.settled()

    async def space(self) -> Space:
        """Of the pool's file system."""
        return await self.host.files.space(self.base)

    # --- volumes ------------------------------------------------------------------------------------------------

    async def volumes(self, kind: str = "container") -> tuple[str, ...]:
        """All names in their directory, including foreign ones."""
        names = await self.host.files.names(self.base / _PLACES[kind])
        return tuple(name for name in names if not name.startswith("."))

    async def holds(self, id: str) -> bool:
        """Whether it has a directory."""
        return bool(_ID.fullmatch(id)) and await self.host.files.exists(self._roots() / id)

    async def usage(self, volume: Volume, snapshot: str | None = None) -> int:
        """Disk usage of its tree."""
        return await self.trees.usage(self._tree(volume, snapshot))

    async def _has_volume(self, volume: Volume) -> bool:
        return await self.host.files.exists(self._data(volume))

    async def _create_volume(self, volume: Volume) -> None:
        async def fill(tree: Path) -> None:
            if volume.layers:
                await self.trees.clone(await self._top(volume), tree)
            else:
                await self.trees.create(tree, mode=0o755 if volume.kind == "container" else 0o711)

        await self._build(volume, fill)

    async def _top(self, volume: Volume) -> Path:
        id = self.layers.ids(volume.layers)[-1]
        if id not in await self.layers.stored():
            raise NotFound(f"Layer {volume.layers[-1][7:19]} is not in storage pool {self.pool.name!r}")
        return self.layers.place / id.removeprefix("sha256:")

    async def _clone_volume(self, volume: Volume, source: Volume, snapshot: str | None) -> None:
        await self._require(source, snapshot)
        await self._build(volume, lambda tree: self.trees.clone(self._tree(source, snapshot), tree))

    async def _fill_volume(self, volume: Volume, tree: Path) -> None:
        async def fill(own: Path) -> None:
            await self.trees.copy(tree, own)

        await self._build(volume, fill)

    async def _build(self, volume: Volume, fill: Fill) -> None:
        """Build it in ``partial``, then rename it into place."""
        partial, place = self._partial / f"{volume.id}.new", self._place(volume)
        try:
            await self._trash.make_room()
            await self.trees.destroy(partial)
            await self.host.files.make_directory(partial, mode=0o700)
            await fill(partial / self._data(volume).name)
            if volume.size is not None:
                await self.trees.limit(partial / self._data(volume).name, volume.size)
            await self._furnish(volume, partial)
            await self.trees.settle(partial)
            await self.host.files.rename(partial, place)
        except BaseException:
            await finish(self.trees.destroy(partial))
            raise

    async def _furnish(self, volume: Volume, place: Path) -> None:
        """Hook: add further files to a volume's directory."""

    async def _delete_volume(self, volume: Volume) -> None:
        points = [point for point in await self.host.mounts.below(self._mounts) if self._is_of(point, volume)]
        for point in points:
            await self._hide(point)
        await self._trash.discard(self._place(volume))

    async def _resize(self, volume: Volume, size: int | None) -> None:
        await self.trees.limit(self._data(volume), size)

    # --- snapshots ----------------------------------------------------------------------------------------------

    async def snapshots(self, volume: Volume) -> tuple[str, ...]:
        """Names in their directory."""
        return await self.host.files.names(self._place(volume) / "snapshots")

    async def _has_snapshot(self, volume: Volume, id: str) -> bool:
        return await self.host.files.exists(self._tree(volume, _checked(id)))

    async def _snapshot(self, volume: Volume, id: str) -> None:
        await self._require(volume, None)
        if not self.trees.instant:
            await self._keep_survey(volume, id)
        await self._fill_snapshot(volume, id, self._data(volume), same_pool=True)

    async def _keep_survey(self, volume: Volume, id: str) -> None:
        """What a restore needs to know which files have not changed since."""
        still, path = await self._is_still(volume), self._survey(volume, id)
        found = await survey_of(self.host, self._data(volume), still=still)
        await self.host.files.make_directory(path.parent, mode=0o700)
        await self.host.files.write(path, found, durable=False)

    async def _is_still(self, volume: Volume) -> bool:
        """Programs in a root are frozen, and what they have mapped into memory is written out before they go on."""
        return volume.kind == "container" or not any(
            self._is_of(point, volume) for point in await self.host.mounts.below(self._mounts)
        )

    def _survey(self, volume: Volume, id: str) -> Path:
        return self._place(volume) / "surveys" / _checked(id)

    async def _fill_snapshot(self, volume: Volume, id: str, tree: Path, same_pool: bool) -> None:
        partial, target = self._partial / f"{volume.id}-{_checked(id)}.taken", self._tree(volume, id)
        try:
            await self._trash.make_room()
            await self.trees.destroy(partial)
            await self.host.files.make_directory(partial, mode=0o700)
            await (self.trees.clone if same_pool else self.trees.copy)(tree, partial / "data")
            await self.host.files.make_directory(target.parent, mode=0o700)
            await self.trees.settle(partial)
            await self.host.files.rename(partial / "data", target)
        finally:
            await finish(self.trees.destroy(partial))

    async def _clone_snapshot(self, volume: Volume, id: str, source: Volume, snapshot: str | None) -> None:
        await self._require(source, snapshot)
        await self._fill_snapshot(volume, id, self._tree(source, snapshot), same_pool=True)

    async def _prepare_restore(self, volume: Volume, id: str) -> None:
        await self._require(volume, id)
        trust = Trust(content=False, survey=await survey_in(self.host, self._survey(volume, id)))
        await self._replacements.prepare(
            (volume.id, id), self._tree(volume, id), self._data(volume), trust, clone=True, size=volume.size
        )

    async def _prepare_refresh(self, volume: Volume, id: str, tree: Path, same_pool: bool) -> None:
        await self._require(volume, None)
        await self._replacements.prepare(
            (volume.id, _checked(id)), tree, self._data(volume), Trust(), clone=same_pool, size=volume.size
        )

    async def _drop_prepared(self, volume: Volume, id: str) -> None:
        self._replacements.drop((volume.id, id))

    async def _restore(self, volume: Volume, id: str) -> None:
        if not self._replacements.has((volume.id, id)):
            await self._prepare_restore(volume, id)
        await self._replacements.apply((volume.id, id), self._data(volume))

    async def _delete_snapshot(self, volume: Volume, id: str) -> None:
        await self._trash.discard(self._tree(volume, _checked(id)))
        await self.host.files.remove_tree(self._survey(volume, id))

    @asynccontextmanager
    async def contents(
        self, volume: Volume, snapshot: str | None = None, ids: IdRange | None = None
    ) -> AsyncIterator[Path]:
        await self._require(volume, snapshot)
        tree = self._tree(volume, snapshot)
        if ids is None:
            yield tree
            return
        async with self._scratch(volume) as shown:
            await self.host.mounts.bind(BindMount(tree, shown, ids, read_only=True))
            yield shown

    @asynccontextmanager
    async def comparison(self, volume: Volume, snapshot: str | None = None) -> AsyncIterator[Comparison]:
        """Both trees are complete and have the ids inside."""
        await self._require(volume, snapshot)
        yield Comparison(self._tree(volume, snapshot), await self._top(volume) if volume.layers else None)

    @asynccontextmanager
    async def layered(self, layers: Sequence[str], ids: IdRange | None = None) -> AsyncIterator[Path]:
        """Layers are complete trees."""
        reader = self._reader(layers)
        if ids is None:
            yield await self._top(reader)
            return
        async with self._scratch(reader) as scratch:
            tree, shown = scratch / "tree", scratch / "shown"
            await self.host.files.make_directory(tree, shown, mode=0o755)
            await self.host.mounts.bind(
                BindMount(await self._top(reader) if layers else tree, shown, ids, read_only=True)
            )
            yield shown

    def _reader(self, layers: Sequence[str]) -> Volume:
        """Stands for a volume in the names of scratch directories."""
        return Volume(id=self.host.clock.token(8), pool=self.pool.name, layers=tuple(layers))

    @asynccontextmanager
    async def _scratch(self, volume: Volume) -> AsyncIterator[Path]:
        """A directory for the mounts of one reader; removed afterwards, or by the next daemon after a kill."""
        place = self._partial / f"{volume.id}.{self.host.clock.token(8)}.shown"
        try:
            await self.host.files.make_directory(place, mode=0o700)
            yield place
        finally:
            await finish(clear_trial(self.host, place))

    async def _require(self, volume: Volume, snapshot: str | None) -> None:
        if not await self.host.files.exists(self._tree(volume, snapshot)):
            raise self._missing(volume, snapshot)
        if snapshot is None:
            await self._replacements.complete(self._data(volume))

    def _missing(self, volume: Volume, snapshot: str | None = None) -> NotFound:
        what = f"Snapshot {snapshot} of volume" if snapshot else "Volume"
        return NotFound(f"{what} {volume.id} is not in storage pool {self.pool.name!r}")

    # --- mounting -----------------------------------------------------------------------------------------------

    def _point(self, volume: Volume, holder: str) -> Path:
        if volume.kind == "container":
            return self._mounts / _checked(volume.id) / "root"
        # Hashed, because a holder's name may contain any character and be longer than a file name.
        return self._mounts / f"{_checked(volume.id)}@{hashlib.sha256(holder.encode()).hexdigest()[:16]}" / "root"

    def _is_of(self, point: Path, volume: Volume) -> bool:
        return point.parent.name.partition("@")[0] == volume.id and point.parent.parent == self._mounts

    async def _show(self, volume: Volume, point: Path) -> None:
        self._replacements.outdate(volume.id)
        await self._replacements.complete(self._data(volume))
        if await self.host.mounts.mounted(point):
            return
        await self._require(volume, None)
        await self._make_point(volume, point)
        await self.host.mounts.bind(BindMount(self._data(volume), point, volume.idmap))

    async def _make_point(self, volume: Volume, point: Path) -> None:
        """A mount point that, beside root, only root of the instance can reach: engines look for it with its rights."""
        owner = volume.idmap.base if volume.idmap else 0
        await self.host.files.build(NewDirectory(point.parent, 0o100, owner), NewDirectory(point, 0o755))

    async def _hide(self, point: Path) -> None:
        await self.host.mounts.unmount(point)
        if point.is_relative_to(self._mounts):
            await self.host.files.remove_tree(point.parent)

    # --- paths --------------------------------------------------------------------------------------------------

    def _place(self, volume: Volume) -> Path:
        if volume.kind not in _PLACES:
            raise InvalidInput(f"Unknown kind of volumes {volume.kind[:40]!r}")
        return self.base / _PLACES[volume.kind] / _checked(volume.id)

    def _data(self, volume: Volume) -> Path:
        return self._place(volume) / "data"

    def _tree(self, volume: Volume, snapshot: str | None) -> Path:
        return self._data(volume) if snapshot is None else self._place(volume) / "snapshots" / _checked(snapshot)


def _checked(id: str) -> str:
    if not _ID.fullmatch(id):
        raise InvalidInput(f"Invalid volume id {id[:80]!r}")
    return id
