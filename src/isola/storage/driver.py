"""The storage driver kind: pools of volumes. ``drivers/<name>.py`` exports its class as ``DRIVER``."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

from isola.errors import InUse, Unsupported
from isola.host import Host
from isola.host.archive.archives import Comparison, LayerReport
from isola.host.building import NewFile
from isola.host.cancellation import finish
from isola.model.file_change import FileChange
from isola.model.identity import IdRange
from isola.model.probe import Probe
from isola.model.storage import Pool, Space, Volume
from isola.operations import Operation
from isola.settings import Settings
from isola.storage.capabilities import Feature, StorageCapabilities
from isola.storage.layers import LayerStore
from isola.storage.sizes import bytes_of

Effect = Callable[[], Awaitable[None]]
VISITOR = "visitor"
"""The holder of volumes that are mounted for reading their files only."""


class VolumeDriver(ABC):
    """One pool. The public methods do look-push-do once; drivers write the ``_hooks``.

    ``directory`` is that of the pool, below the daemon's directory. A volume is identified by its id, never by a path.
    Volumes are removed only on request: those without a record are left alone.
    """

    capabilities: ClassVar[StorageCapabilities]
    settings: ClassVar[Settings]
    """Pool configuration keys."""

    layers: LayerStore

    def __init__(self, host: Host, pool: Pool, directory: Path) -> None:
        self.host = host
        self.pool = pool
        self.directory = directory
        self._holders: dict[Path, set[str]] = {}
        """Holders of mounts, by mount point."""
        self._visitors: Counter[Path] = Counter()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @classmethod
    @abstractmethod
    async def probe(cls, host: Host, trials: Path) -> Probe:
        """Whether it works on this host, with the version, or the reason and a remedy.

        Trials take place below ``trials``, a directory that is created if needed and cleared by the caller,
        because
        the daemon may be killed during a trial.
        """

    @property
    def place(self) -> Path:
        """The directory that contains the pool's volumes."""
        return self.directory

    @property
    def descriptions(self) -> Path:
        """The directory of descriptions of volumes."""
        return self.place / "descriptions"

    async def complete(self, config: Mapping[str, str]) -> Mapping[str, str]:
        """The configuration of a new pool, with permanent values for keys that the user left open."""
        return config

    async def why_not(self, feature: Feature) -> str:
        """The reason why this pool lacks a feature; empty if it has it."""
        return self.capabilities.missing.get(feature, "")

    async def default_size(self) -> int | None:
        """The limit in bytes of a new root without a size; None if the pool has no default, or cannot limit volumes."""
        value = self.pool.config.get("volume.size")
        if not value or await self.why_not(Feature.QUOTA):
            return None
        return bytes_of(value, await self.space())

    async def require(self, feature: Feature) -> None:
        """Raise Unsupported with that reason."""
        if reason := await self.why_not(feature):
            raise Unsupported(f"Storage pool {self.pool.name!r} does not offer {feature}", evidence=reason)

    # --- the pool -----------------------------------------------------------------------------------------------

    async def create_pool(self, op: Operation) -> None:
        """Create the pool's directories. Raises InvalidInput if there is foreign data."""
        await self.check_place()
        await op.effect(f"create pool {self.pool.name}", self._create_all, undo=self._delete_pool)

    async def delete_pool(self, op: Operation) -> None:
        """Remove the pool and everything in it."""
        await op.effect(f"delete pool {self.pool.name}", self._delete_pool)

    async def foreign(self) -> Sequence[Path]:
        """Files that ``delete_pool`` would remove although the daemon has not created them. The pool has no volumes."""
        return ()

    async def check_place(self) -> None:  # noqa: B027 - most drivers need no check
        """Check the configuration of a new pool against the host. Raises InvalidInput."""

    async def open(self) -> None:  # noqa: B027 - most pools need no preparation
        """At the start of the daemon: make the pool usable. After HostFailure nothing in it may be accessed."""

    async def close(self) -> None:  # noqa: B027 - most pools need no cleanup
        """Before the host shuts down, when the pool is not used any more: undo ``open``."""

    async def settled(self) -> None:  # noqa: B027 - where nothing is removed in the background
        """Wait until all that was to be removed in the background is gone, or has been left to the next daemon."""

    async def update_pool(self, config: Mapping[str, str]) -> None:  # noqa: B027 - most changes have no effect
        """Apply a validated configuration, before it is recorded. Raises InvalidInput."""

    async def _create_all(self) -> None:
        await self._create_pool()
        await self._make_descriptions()

    async def _make_descriptions(self) -> None:
        await self.host.files.make_directory(self.descriptions, mode=0o700)
        await self.host.files.flush(self.place)

    # --- volumes ------------------------------------------------------------------------------------------------

    async def create_volume(self, op: Operation, volume: Volume, *beside: NewFile) -> None:
        """Create a volume on its layers, which must exist, and files in ``descriptions``, durably.

        Raises NotFound, AlreadyExists, Unsupported.
        """
        do = partial(self._create_beside, volume, *beside)
        await self._make(op, volume, f"create volume {volume.id}", do, beside)

    async def clone_volume(self, op: Operation, volume: Volume, source: Volume, snapshot: str | None = None) -> None:
        """Create a volume with the content of another volume of this pool, or of one of its snapshots.

        Both have the same layers. Raises NotFound, AlreadyExists, Unsupported.
        """
        await self._make(op, volume, f"copy volume {source.id}", lambda: self._clone_volume(volume, source, snapshot))

    def ids_of(self, volume: Volume) -> IdRange | None:
        """The ids that files copied into a volume from elsewhere must have; None: those inside."""
        return None

    async def fill_volume(self, op: Operation, volume: Volume, tree: Path) -> None:
        """Create a volume from a copy of a directory, whose ids are those of ``ids_of``.

        It has no layers, or the directory is one of ``changes``.

        Raises the errors of ``clone_volume``.
        """
        await self._make(op, volume, f"fill volume {volume.id}", lambda: self._fill_volume(volume, tree))

    async def delete_volume(self, op: Operation, volume: Volume) -> None:
        """Unmount and remove a volume with its snapshots; no effect if it does not exist."""
        await op.effect(f"delete volume {volume.id}", lambda: self._forget(volume))

    async def resize_volume(self, op: Operation, volume: Volume, size: int | None) -> None:
        """Change the limit from ``volume.size`` to ``size`` bytes, also while it is in use. Raises Unsupported."""
        if size is not None:
            await self.require(Feature.QUOTA)
        await op.effect(
            f"resize volume {volume.id}",
            lambda: self._resize(volume, size),
            undo=lambda: self._resize(volume, volume.size),
        )

    # --- snapshots ----------------------------------------------------------------------------------------------

    async def create_snapshot(self, op: Operation, volume: Volume, id: str) -> None:
        """Snapshot the current content of a volume. The caller has frozen its writers."""
        await op.effect(
            f"snapshot volume {volume.id}",
            lambda: self._snapshot(volume, id),
            look=lambda: self._has_snapshot(volume, id),
            undo=lambda: self._delete_snapshot(volume, id),
        )

    async def clone_snapshot(
        self, op: Operation, volume: Volume, id: str, source: Volume, snapshot: str | None
    ) -> None:
        """Make a snapshot of a volume with the content of another volume of this pool, or of a snapshot of that."""
        await op.effect(
            f"copy snapshot of volume {source.id}",
            lambda: self._clone_snapshot(volume, id, source, snapshot),
            look=lambda: self._has_snapshot(volume, id),
            undo=lambda: self._delete_snapshot(volume, id),
        )

    async def fill_snapshot(
        self, op: Operation, volume: Volume, id: str, tree: Path, *, same_pool: bool = False
    ) -> None:
        """Create a snapshot from a copy of a directory of ``contents``, whose ids are those of ``ids_of``."""
        await op.effect(
            f"fill snapshot of volume {volume.id}",
            lambda: self._fill_snapshot(volume, id, tree, same_pool),
            look=lambda: self._has_snapshot(volume, id),
            undo=lambda: self._delete_snapshot(volume, id),
        )

    async def restore_snapshot(self, op: Operation, volume: Volume, id: str) -> None:
        """Restore the content of an unmounted volume, atomically.

        The current content is lost, so this must be the end of an operation. Raises NotFound.
        """
        await op.effect(f"restore volume {volume.id}", lambda: self._locked_restore(volume, id))

    async def prepare_restore(self, op: Operation, volume: Volume, id: str) -> None:
        """Do the slow part of a restore in advance, so that ``apply_restore`` is fast.

        Raises NotFound, InUse while it is mounted.
        """
        await op.effect(
            f"prepare restore of volume {volume.id}",
            lambda: self._locked_prepare(volume, id),
            undo=lambda: self._drop_prepared(volume, id),
        )

    async def prepare_refresh(
        self, op: Operation, volume: Volume, id: str, tree: Path, *, same_pool: bool = False
    ) -> None:
        """The same with the content of a directory of ``contents`` or ``changes``, under a new id.

        Files of the same size and time of modification count as the same; the others are copied.
        ``same_pool``: the directory is a tree of this pool. Raises NotFound, InUse while the volume is mounted.
        """
        await op.effect(
            f"prepare refresh of volume {volume.id}",
            lambda: self._locked_refresh(volume, id, tree, same_pool=same_pool),
            undo=lambda: self._drop_prepared(volume, id),
        )

    async def apply_restore(self, volume: Volume, id: str) -> None:
        """``restore_snapshot`` outside an operation; the volume is unchanged if it raises. Can be repeated."""
        await self._locked_restore(volume, id)

    async def drop_snapshot(self, volume: Volume, id: str) -> None:
        """``delete_snapshot`` outside an operation."""
        await self._delete_snapshot(volume, id)

    async def delete_snapshot(self, op: Operation, volume: Volume, id: str) -> None:
        """No effect if it does not exist."""
        await op.effect(f"delete snapshot of volume {volume.id}", lambda: self._delete_snapshot(volume, id))

    # --- mounting -----------------------------------------------------------------------------------------------

    async def mount(self, op: Operation, volume: Volume, holder: str) -> Path:
        """Mount a volume for a holder and return the path, on which ids are shifted into ``volume.idmap``.

        A custom volume has a separate mount with separate ids for each holder, a root has one for all.
        """
        return await op.effect(
            f"mount volume {volume.id}",
            lambda: self._take(volume, holder),
            undo=lambda: self._release(volume, holder),
        )

    async def unmount(self, op: Operation, volume: Volume, holder: str) -> None:
        """Unmount it for this holder, not for others. No effect if it is not mounted."""
        await op.effect(f"unmount volume {volume.id}", lambda: self._release(volume, holder))

    async def show(self, volume: Volume, holder: str) -> Path:
        """``mount`` outside an operation; the caller undoes it by ``hide``. No effect if it is mounted."""
        return await self._take(volume, holder)

    async def hide(self, volume: Volume, holder: str) -> None:
        """``unmount`` outside an operation."""
        await self._release(volume, holder)

    async def has_volume(self, volume: Volume) -> bool:
        """Whether it is on the host."""
        return await self._has_volume(volume)

    async def holds(self, id: str) -> bool:
        """Whether there is anything of an instance's volume with this id, even if it is incomplete."""
        return id in await self.volumes()

    async def is_mounted(self, volume: Volume, holder: str) -> bool:
        """Whether it is mounted for the holder, according to the host."""
        return await self.host.mounts.mounted(self._point(volume, holder))

    @asynccontextmanager
    async def visit(self, volume: Volume) -> AsyncIterator[Path]:
        """The path of a volume, which is mounted as long as it has a visitor or holder."""
        directory = await self._enter(volume)
        try:
            yield directory
        finally:
            await finish(self._leave(volume))

    async def _make(self, op: Operation, volume: Volume, name: str, do: Effect, beside: Sequence[NewFile] = ()) -> None:
        if volume.size is not None:
            await self.require(Feature.QUOTA)

        async def undo() -> None:
            await self._forget(volume)
            for file in beside:
                await self.host.files.remove_tree(file.path, flush=(file.path.parent,))

        await op.effect(name, do, look=lambda: self._has_volume(volume), undo=undo)

    async def _create_beside(self, volume: Volume, *beside: NewFile) -> None:
        await self._create_volume(volume)
        if beside:
            await self.host.files.build(*beside, flush=(self.descriptions,))

    async def _take(self, volume: Volume, holder: str) -> Path:
        point = self._point(volume, holder)
        async with self._lock(volume.id):
            await self._show(volume, point)
            self._holders.setdefault(point, set()).add(holder)
            return point

    async def _release(self, volume: Volume, holder: str) -> None:
        point = self._point(volume, holder)
        async with self._lock(volume.id):
            holders = self._holders.get(point, set())
            holders.discard(holder)
            if not holders:
                self._holders.pop(point, None)
                if not self._visitors[point]:
                    await self._hide(point)

    async def _enter(self, volume: Volume) -> Path:
        point = self._point(volume, VISITOR)
        async with self._lock(volume.id):
            if not self._visitors[point] and not self._holders.get(point) and await self.is_mounted(volume, VISITOR):
                self._holders[point] = {"an earlier daemon's"}
            await self._show(volume, point)
            self._visitors[point] += 1
            return point

    async def _leave(self, volume: Volume) -> None:
        point = self._point(volume, VISITOR)
        async with self._lock(volume.id):
            self._visitors[point] -= 1
            if not self._visitors[point]:
                del self._visitors[point]
                if not self._holders.get(point):
                    await self._hide(point)

    async def _forget(self, volume: Volume) -> None:
        async with self._lock(volume.id):
            await self._delete_volume(volume)
            for point in [point for point in self._holders if self._is_of(point, volume)]:
                del self._holders[point]

    async def _locked_restore(self, volume: Volume, id: str) -> None:
        async with self._lock(volume.id):
            self._refuse_if_mounted(volume)
            await self._restore(volume, id)

    async def _locked_prepare(self, volume: Volume, id: str) -> None:
        async with self._lock(volume.id):
            self._refuse_if_mounted(volume)
            await self._prepare_restore(volume, id)

    async def _locked_refresh(self, volume: Volume, id: str, tree: Path, *, same_pool: bool) -> None:
        async with self._lock(volume.id):
            self._refuse_if_mounted(volume)
            await self._prepare_refresh(volume, id, tree, same_pool)

    def _refuse_if_mounted(self, volume: Volume) -> None:
        if any(self._is_of(point, volume) for point in (*self._holders, *self._visitors)):
            raise InUse(f"Volume {volume.id} is mounted", remedy="stop its users first")

    def _lock(self, name: str) -> asyncio.Lock:
        """A lock per volume, dropped when it is neither held nor waited for."""
        return self._locks.setdefault(name, asyncio.Lock())

    # --- hooks --------------------------------------------------------------------------------------------------

    @abstractmethod
    async def _create_pool(self) -> None: ...

    @abstractmethod
    async def _delete_pool(self) -> None: ...

    @abstractmethod
    async def _has_volume(self, volume: Volume) -> bool: ...

    @abstractmethod
    async def _create_volume(self, volume: Volume) -> None: ...

    @abstractmethod
    async def _clone_volume(self, volume: Volume, source: Volume, snapshot: str | None) -> None: ...

    @abstractmethod
    async def _fill_volume(self, volume: Volume, tree: Path) -> None: ...

    @abstractmethod
    async def _delete_volume(self, volume: Volume) -> None:
        """With all its mounts; no effect if it does not exist."""

    @abstractmethod
    async def _resize(self, volume: Volume, size: int | None) -> None: ...

    @abstractmethod
    async def _has_snapshot(self, volume: Volume, id: str) -> bool: ...

    @abstractmethod
    async def _snapshot(self, volume: Volume, id: str) -> None: ...

    @abstractmethod
    async def _clone_snapshot(self, volume: Volume, id: str, source: Volume, snapshot: str | None) -> None: ...

    @abstractmethod
    async def _fill_snapshot(self, volume: Volume, id: str, tree: Path, same_pool: bool) -> None: ...

    @abstractmethod
    async def _restore(self, volume: Volume, id: str) -> None: ...

    @abstractmethod
    async def _prepare_restore(self, volume: Volume, id: str) -> None: ...

    @abstractmethod
    async def _prepare_refresh(self, volume: Volume, id: str, tree: Path, same_pool: bool) -> None: ...

    @abstractmethod
    async def _drop_prepared(self, volume: Volume, id: str) -> None: ...

    @abstractmethod
    async def _delete_snapshot(self, volume: Volume, id: str) -> None: ...

    @abstractmethod
    def _point(self, volume: Volume, holder: str) -> Path:
        """The mount point for a holder."""

    @abstractmethod
    def _is_of(self, point: Path, volume: Volume) -> bool:
        """Whether a mount point belongs to this volume."""

    @abstractmethod
    async def _show(self, volume: Volume, point: Path) -> None:
        """Mount; no effect if it is mounted. Raises NotFound, but perhaps not for a mounted volume."""

    @abstractmethod
    async def _hide(self, point: Path) -> None:
        """Unmount; no effect if it is not mounted."""

    @abstractmethod
    async def volumes(self, kind: str = "container") -> tuple[str, ...]:
        """Ids of all volumes of a kind on the host."""

    @abstractmethod
    async def snapshots(self, volume: Volume) -> tuple[str, ...]:
        """Ids of a volume's snapshots on the host."""

    @abstractmethod
    def contents(
        self, volume: Volume, snapshot: str | None = None, ids: IdRange | None = None
    ) -> AbstractAsyncContextManager[Path]:
        """A read-only mount of a volume or its snapshot, with the ids inside, or with those of ``ids``.

        Raises NotFound.
        """

    def changes(
        self, volume: Volume, snapshot: str | None = None, ids: IdRange | None = None
    ) -> AbstractAsyncContextManager[Path]:
        """The same without what the volume shares with its layers, for a volume on the same layers."""
        return self.contents(volume, snapshot, ids)

    @abstractmethod
    def comparison(self, volume: Volume, snapshot: str | None = None) -> AbstractAsyncContextManager[Comparison]:
        """The tree of a root or its snapshot, and that of its layers, both with the ids inside. Raises NotFound."""

    @abstractmethod
    def layered(self, layers: Sequence[str], ids: IdRange | None = None) -> AbstractAsyncContextManager[Path]:
        """The tree of image layers that are in the pool, with the ids inside, to be read. Raises NotFound.

        ``ids``: a mount with these ids instead, of which clones may be made that stay.
        """

    async def pack_layer(
        self,
        volume: Volume,
        target: Path,
        *,
        snapshot: str | None = None,
        compression: str = "zstd",
        newest: int | None = None,
        leave_out: Sequence[str] = (),
    ) -> LayerReport:
        """Write what a root, or a snapshot of it, changed of its layers to a new file, as a further image layer.

        The layer has the ids inside and whiteouts for what was deleted, and its content depends only on the two trees
        if ``newest`` limits the times of modification. ``leave_out``: paths without a leading slash. The caller has
        frozen its writers, and makes sure that there is room for the file. Raises NotFound, TooLarge, HostFailure.
        """
        async with self.comparison(volume, snapshot) as trees:
            return await self.host.archives.pack_layer(
                trees, target, compression=compression, newest=newest, leave_out=leave_out
            )

    async def list_changes(self, volume: Volume, scratch: Path, *, snapshot: str | None = None) -> Sequence[FileChange]:
        """What a root changed of its layers, in the order of paths; ``scratch``: the path of a temporary file.

        Raises NotFound, TooLarge.
        """
        async with self.comparison(volume, snapshot) as trees:
            return await self.host.archives.list_changes(trees, scratch)

    @abstractmethod
    async def clean(self) -> None:
        """Remove incomplete and temporary files of an earlier daemon."""

    @abstractmethod
    async def usage(self, volume: Volume, snapshot: str | None = None) -> int:
        """Bytes that belong to the volume, or to a snapshot of it, alone."""

    @abstractmethod
    async def space(self) -> Space:
        """Size and use of the pool."""
