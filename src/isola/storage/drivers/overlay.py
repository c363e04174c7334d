"""Roots as overlay mounts: a plain upper directory over image layers that all instances share.

Layout of a pool, in addition to that of trees, which custom volumes have::

    layers/<hex digest>/            an unpacked layer with the ids of the image; read-only once complete
        volumes/<id>/upper, work        changes of the instance, and overlay's work directory
        volumes/<id>/snapshots/<id>     copies of ``upper``
        empty/                          the lower directory of volumes without layers

    Files of ``upper`` have shifted ids, which a user of the host may get one day: only root can enter ``volumes``. What
    an instance needs is its mount in ``mounts``, as long as it runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from isola.errors import HostFailure, NotFound
from isola.host import Host
from isola.host.archive.archives import Comparison
from isola.host.building import NewDirectory, NewFile
from isola.host.cancellation import finish
from isola.host.mounts import BindMount, OverlayMount
from isola.model.identity import IdRange
from isola.model.storage import Pool, Volume
from isola.storage.directory_pools import DirectoryDriver, of_directories
from isola.storage.foreign import names_in
from isola.storage.layers import LayerStore
from isola.storage.single_layers import SingleLayers

_PARTIAL, _DELETED = ".partial-", ".deleted-"
_TRIAL_RANGE = IdRange(100000)


class OverlayDriver(DirectoryDriver):
    """One pool of overlays in a directory."""

    layers: SingleLayers
    contents_name = "overlays"
    own_names = ("empty",)
    capabilities, settings = of_directories("overlay", shared_layers=True)

    def __init__(self, host: Host, pool: Pool, directory: Path) -> None:
        super().__init__(host, pool, directory)
        self._empty = self.base / "empty"
        self._earlier: set[Path] = set()
        """Mount points of roots that an earlier version has mounted in ``volumes``, until they are unmounted."""

    def _make_layers(self) -> LayerStore:
        return SingleLayers(self.host, self.base / "layers", self.pool.name)

    @staticmethod
    async def try_out(host: Host, place: Path) -> None:
        """Mounts a real overlay over an id-mapped layer."""
        await _try_overlay(host, place)

    async def _make_places(self) -> None:
        await self.host.files.make_directory(self._empty, mode=0o755)
        await super()._make_places()

    def _private(self) -> tuple[str, ...]:
        """All, as soon as no root is left that an earlier version has mounted."""
        return tuple(name for name in super()._private() if name != "volumes" or not self._earlier)

    async def open(self) -> None:
        """Also closes ``volumes`` to the ids of instances, which could enter it with earlier versions."""
        if await self.host.files.exists(self._roots()):
            mounts = await self.host.mounts.below(self._roots())
            self._earlier = {mount for mount in mounts if mount.parent.parent == self._roots() and mount.name == "root"}
        await super().open()

    async def foreign(self) -> Sequence[Path]:
        """Also in the lower directory of volumes without layers, which is always empty."""
        lower = [self._empty / name for name in await names_in(self.host, self._empty)]
        return [*await super().foreign(), *lower]

    async def _delete_content(self) -> None:
        await super()._delete_content()
        await self.host.files.remove_tree(self._empty)
        await self.host.files.flush(self.base)

    async def clean(self) -> None:
        """Also removes incomplete files of earlier versions, which were beside complete ones."""
        await super().clean()
        for mount in await self.host.mounts.below(self._roots()):
            if mount.parent.parent != self._roots() or mount.name != "root":
                await self.host.mounts.unmount(mount)
        for directory in (self.layers.place, self._roots()):
            for name in await self.host.files.names(directory):
                if name.startswith((_PARTIAL, _DELETED)):
                    await self.host.files.remove_tree(directory / name)

    # --- roots --------------------------------------------------------------------------------------------------

    async def _create_beside(self, volume: Volume, *beside: NewFile) -> None:
        if volume.kind != "container":
            await super()._create_beside(volume, *beside)
            return
        place, lower, owner = self._place(volume), self._lower(volume), _owner(volume)
        directories = (
            NewDirectory(place, 0o700),
            NewDirectory(place / "work", 0o700),
            NewDirectory(place / "upper", lower[-1], owner),
        )
        # Sync, because the record that names it is written next, and might reach the disk first.
        flush = (place / "upper", place, self._roots(), *(self.descriptions for _ in beside))
        try:
            await self.host.files.build(*beside, *directories, needs=lower, flush=flush)
        except NotFound:
            await self._require_layers(volume)
            raise
        if self.trees.enforced:
            # One project: overlay creates files in its work directory and moves them.
            await self.host.tree_quotas.begin(place / "upper", place / "work")
            await self.trees.limit(place / "upper", volume.size)

    async def _require_layers(self, volume: Volume) -> None:
        for layer in volume.layers:
            if not await self.host.files.exists(self.layers.path(layer)):
                raise NotFound(f"Layer {layer[7:19]} is not in storage pool {self.pool.name!r}")

    async def _furnish(self, volume: Volume, place: Path) -> None:
        if volume.kind == "container":
            await self.host.files.make_directory(place / "work", mode=0o700)
            await self.trees.gather(place / "work", place / "upper")

    async def _clone_volume(self, volume: Volume, source: Volume, snapshot: str | None) -> None:
        """The copy of the upper directory gets the ids of the new volume."""
        if volume.kind != "container" or volume.idmap == source.idmap:
            await super()._clone_volume(volume, source, snapshot)
            return
        await self._require(source, snapshot)

        async def fill(tree: Path) -> None:
            async with self._shifted(source, snapshot, volume, volume.idmap) as shifted:
                await self.trees.copy(shifted, tree)

        await self._build(volume, fill)

    async def _clone_snapshot(self, volume: Volume, id: str, source: Volume, snapshot: str | None) -> None:
        """The copy gets the ids of the new volume."""
        if volume.kind != "container" or volume.idmap == source.idmap:
            await super()._clone_snapshot(volume, id, source, snapshot)
            return
        await self._require(source, snapshot)
        async with self._shifted(source, snapshot, volume, volume.idmap) as shifted:
            await self._fill_snapshot(volume, id, shifted, same_pool=False)

    @asynccontextmanager
    async def _shifted(
        self, source: Volume, snapshot: str | None, volume: Volume, ids: IdRange | None
    ) -> AsyncIterator[Path]:
        """The upper directory of one volume, mounted with other ids for the time of work on ``volume``."""
        async with self._scratch(volume) as shifted:
            await self.host.mounts.bind(_reshifted(self._tree(source, snapshot), shifted, source, ids))
            yield shifted

    def ids_of(self, volume: Volume) -> IdRange | None:
        """Files in an upper directory have shifted ids."""
        return volume.idmap if volume.kind == "container" else super().ids_of(volume)

    @asynccontextmanager
    async def contents(
        self, volume: Volume, snapshot: str | None = None, ids: IdRange | None = None
    ) -> AsyncIterator[Path]:
        if volume.kind != "container":
            async with super().contents(volume, snapshot, ids) as tree:
                yield tree
            return
        await self._require(volume, snapshot)
        async with self._scratch(volume) as scratch:
            await self._show_whole(volume, self._tree(volume, snapshot), scratch, ids)
            yield scratch / "root"

    @asynccontextmanager
    async def changes(
        self, volume: Volume, snapshot: str | None = None, ids: IdRange | None = None
    ) -> AsyncIterator[Path]:
        """Its upper directory."""
        if volume.kind != "container":
            async with super().contents(volume, snapshot, ids) as tree:
                yield tree
            return
        await self._require(volume, snapshot)
        async with self._shifted(volume, snapshot, volume, ids) as shifted:
            yield shifted

    @asynccontextmanager
    async def comparison(self, volume: Volume, snapshot: str | None = None) -> AsyncIterator[Comparison]:
        """The upper directory, and a mount of the layers, of which only the directories in it are read."""
        if volume.kind != "container":
            async with super().comparison(volume, snapshot) as trees:
                yield trees
            return
        await self._require(volume, snapshot)
        mounts, lower = self.host.mounts, self._lower(volume)
        async with self._scratch(volume) as scratch:
            upper, below = scratch / "upper", scratch / "below"
            await self.host.files.make_directory(upper, below, mode=0o700)
            await mounts.bind(_reshifted(self._tree(volume, snapshot), upper, volume, None))
            if len(lower) > 1:
                await mounts.overlay(OverlayMount(lower, None, None, below))
            yield Comparison(upper, below if len(lower) > 1 else lower[0], layered=True)

    @asynccontextmanager
    async def layered(self, layers: Sequence[str], ids: IdRange | None = None) -> AsyncIterator[Path]:
        """An overlay of them; with the ids inside one is shown as it is."""
        reader = self._reader(layers)
        await self._require_layers(reader)
        lower = self._lower(reader)
        if len(lower) == 1 and ids is None:
            yield lower[0]
            return
        async with self._scratch(reader) as scratch:
            if ids is not None:
                # Also of a single one, which may have whiteouts; without an upper directory an overlay needs two.
                lower = lower if len(layers) != 1 else (self._empty, *lower)
                lower = await self._show_layers(lower, scratch, ids)
            if len(lower) == 1:
                yield lower[0]
                return
            root = scratch / "root"
            await self.host.files.make_directory(root, mode=0o700)
            await self.host.mounts.overlay(OverlayMount(lower, None, None, root))
            yield root

    async def _show_layers(self, layers: Sequence[Path], scratch: Path, ids: IdRange) -> tuple[Path, ...]:
        """Layers with other ids."""
        shown = tuple(scratch / str(number) for number in range(len(layers)))
        for layer, point in zip(layers, shown, strict=True):
            await self.host.files.make_directory(point, mode=0o700)
            await self.host.mounts.bind(BindMount(layer, point, ids, read_only=True))
        return shown

    async def _show_whole(self, volume: Volume, upper: Path, scratch: Path, ids: IdRange | None) -> None:
        """A read-only mount of a root. Overlays do not support id-mapped mounts, so their directories are id-mapped."""
        mounts, root, top = self.host.mounts, scratch / "root", scratch / "top"
        await self.host.files.make_directory(root, top, mode=0o700)
        await mounts.bind(_reshifted(upper, top, volume, ids))
        lower = self._lower(volume)
        lower = lower if ids is None else await self._show_layers(lower, scratch, ids)
        await mounts.overlay(OverlayMount((*lower, top), None, None, root))

    async def _show(self, volume: Volume, point: Path) -> None:
        if volume.kind != "container":
            await super()._show(volume, point)
            return
        self._replacements.outdate(volume.id)
        await self._replacements.complete(self._data(volume))
        if await self.host.mounts.mounted(point):
            return
        place = self._place(volume)
        mount = OverlayMount(self._lower(volume), place / "upper", place / "work", point, volume.idmap)
        try:
            await self._make_point(volume, point)
            await self.trees.gather(place / "work", place / "upper")  # a restore may have replaced one of them
            await self.host.mounts.overlay(mount)
        except BaseException as error:
            await finish(self._hide(point))
            if isinstance(error, NotFound):
                raise self._missing(volume) from error
            raise

    async def _hide(self, point: Path) -> None:
        await super()._hide(point)
        if point in self._earlier:
            self._earlier.discard(point)
            await self._make_places()

    async def _delete_volume(self, volume: Volume) -> None:
        if volume.kind == "container":
            await self._hide(self._point(volume, volume.id))
            await self._trash.discard(self._place(volume))
        else:
            await super()._delete_volume(volume)

    def _data(self, volume: Volume) -> Path:
        return self._place(volume) / ("upper" if volume.kind == "container" else "data")

    def _point(self, volume: Volume, holder: str) -> Path:
        earlier = self._place(volume) / "root"
        return earlier if earlier in self._earlier else super()._point(volume, holder)

    def _is_of(self, point: Path, volume: Volume) -> bool:
        return point == self._place(volume) / "root" or super()._is_of(point, volume)

    def _lower(self, volume: Volume) -> tuple[Path, ...]:
        return tuple(self.layers.path(layer) for layer in volume.layers) or (self._empty,)


def _owner(volume: Volume) -> int:
    return volume.idmap.base if volume.idmap else 0


def _reshifted(source: Path, target: Path, volume: Volume, ids: IdRange | None) -> BindMount:
    """A bind mount of a volume's files with other ids; None: with those inside."""
    return BindMount(source, target, ids or IdRange(0), inner=_owner(volume), read_only=True)


async def _try_overlay(host: Host, place: Path) -> None:
    """Raise HostFailure if a file of an id-mapped layer does not appear with shifted ids in an overlay."""
    files = host.files
    lower, upper, work, root = (place / name for name in ("lower", "upper", "work", "root"))
    for directory in (lower, work, root):
        await files.make_directory(directory, mode=0o755)
    await files.make_directory(upper, mode=0o755, owner=_TRIAL_RANGE.base)
    await files.write(lower / "file", b"trial")
    await host.mounts.overlay(OverlayMount((lower,), upper, work, root, _TRIAL_RANGE))
    try:
        async with files.root(root) as seen:
            owner = (await seen.stat("/file")).uid
        if owner != _TRIAL_RANGE.base:
            raise HostFailure(
                "Overlay mounts do not support id-mapped layers", evidence=f"{owner}", remedy="use Linux 5.19 or later"
            )
    finally:
        await finish(host.mounts.unmount(root))


DRIVER = OverlayDriver
