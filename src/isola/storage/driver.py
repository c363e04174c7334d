"""The storage driver kind: pools of volumes. ``drivers/<name>.py`` exports its class as ``DRIVER``."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

from isola.host import Host
from isola.host.cancellation import finish
from isola.model.probe import Probe
from isola.model.storage import Pool, Space, Volume
from isola.operations import Operation
from isola.settings import Settings

Unpack = Callable[[Path], Awaitable[object]]
"""Fills an empty directory with the content of a layer; given by whoever has the image."""


@dataclass(frozen=True, slots=True)
class StorageCapabilities:
    """Facts others may rely on instead of asking for a driver's name."""

    shared_layers: bool = False
    """Image layers are used in place by every instance."""
    snapshots: bool = False
    clones: bool = False
    quota: bool = False
    incremental: bool = False
    encryption: bool = False
    online_resize: bool = False


class StorageDriver(ABC):
    """One pool. The public methods do look-push-do once; drivers write the ``_hooks``.

    ``directory`` is the pool's own below the daemon's; a volume is known by its id, never by its path.
    """

    capabilities: ClassVar[StorageCapabilities]
    settings: ClassVar[Settings]
    """Pool configuration keys."""

    def __init__(self, host: Host, pool: Pool, directory: Path) -> None:
        self.host = host
        self.pool = pool
        self.directory = directory
        self._users: set[str] = set()
        self._visitors: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @classmethod
    @abstractmethod
    async def probe(cls, host: Host, trials: Path) -> Probe:
        """Does it work here, which version, and if not why and what to do.

        What has to be tried out is tried below ``trials``, a directory that is made when needed, and cleared by the
        caller: a daemon may be killed at it.
        """

    @property
    def place(self) -> Path:
        """The directory that goes where the pool's volumes go."""
        return self.directory

    @property
    def descriptions(self) -> Path:
        """Where stands what each volume was."""
        return self.place / "descriptions"

    async def create_pool(self, op: Operation) -> None:
        """Make the pool's own things, where nothing of somebody else's is in the way. Raises InvalidInput."""
        await self.check_place()
        await op.effect(f"create pool {self.pool.name}", self._create_all, undo=self._delete_pool)

    async def delete_pool(self, op: Operation) -> None:
        """Remove the pool's own things and everything in it."""
        await op.effect(f"delete pool {self.pool.name}", self._delete_pool)

    async def check_place(self) -> None:  # noqa: B027 - most drivers have a place of their own
        """Raise InvalidInput where a new pool cannot be made as configured."""

    async def ensure_layer(self, op: Operation, digest: str, unpack: Unpack) -> None:
        """Have a layer unpacked; concurrent callers for one digest unpack it once. Atomic: whole or not there."""
        async with self._lock(digest):  # a layer that is just being deleted does not count
            present = await self._has_layer(digest)
        if not present:
            await op.effect(
                f"unpack layer {digest[7:19]}",
                lambda: self._ensure(digest, unpack),
                undo=lambda: self._drop(digest),
            )

    async def create_volume(self, op: Operation, volume: Volume) -> None:
        """Make a volume over its layers, which are there already."""
        await op.effect(
            f"create volume {volume.id}",
            lambda: self._create_volume(volume),
            look=lambda: self._has_volume(volume.id),
            undo=lambda: self._forget(volume.id),
        )

    async def delete_volume(self, op: Operation, volume: Volume) -> None:
        """Unmount and remove a volume and its data; fine when it is not there."""
        await op.effect(f"delete volume {volume.id}", lambda: self._forget(volume.id))

    async def mount(self, op: Operation, volume: Volume) -> Path:
        """Mount a volume (once) and return where; ids in what is seen there are shifted into ``volume.idmap``."""
        return await op.effect(
            f"mount volume {volume.id}", lambda: self._take(volume), undo=lambda: self._release(volume.id)
        )

    async def unmount(self, op: Operation, volume: Volume) -> None:
        """Fine when it is not mounted."""
        await op.effect(f"unmount volume {volume.id}", lambda: self._release(volume.id))

    @asynccontextmanager
    async def visit(self, volume: Volume) -> AsyncIterator[Path]:
        """A look into a volume that may not be mounted: mounted while at least one visitor or user has it."""
        directory = await self._enter(volume)
        try:
            yield directory
        finally:
            await finish(self._leave(volume.id))

    async def _create_all(self) -> None:
        await self._create_pool()
        await self.host.files.make_directory(self.descriptions, mode=0o700)
        await self.host.files.flush(self.place)

    async def _ensure(self, digest: str, unpack: Unpack) -> None:
        async with self._lock(digest):
            if not await self._has_layer(digest):
                await self._add_layer(digest, unpack)

    async def _drop(self, digest: str) -> None:
        async with self._lock(digest):
            await self._drop_partial_layer(digest)

    async def _take(self, volume: Volume) -> Path:
        async with self._lock(volume.id):
            self._users.add(volume.id)
            return await self._mount(volume)

    async def _release(self, id: str) -> None:
        async with self._lock(id):
            self._users.discard(id)
            if not self._visitors[id]:
                await self._unmount(id)

    async def _enter(self, volume: Volume) -> Path:
        async with self._lock(volume.id):
            if not self._visitors[volume.id] and await self._is_mounted(volume.id):
                self._users.add(volume.id)  # by an instance that an earlier daemon has started
            directory = await self._mount(volume)
            self._visitors[volume.id] += 1
            return directory

    async def _leave(self, id: str) -> None:
        async with self._lock(id):
            self._visitors[id] -= 1
            if not self._visitors[id]:
                del self._visitors[id]
                if id not in self._users:
                    await self._unmount(id)

    async def _forget(self, id: str) -> None:
        async with self._lock(id):
            self._users.discard(id)
            await self._delete_volume(id)

    def _lock(self, name: str) -> asyncio.Lock:
        """One at a time for a volume or a layer; the lock goes when nobody holds or wants it."""
        return self._locks.setdefault(name, asyncio.Lock())

    @abstractmethod
    async def _create_pool(self) -> None: ...

    @abstractmethod
    async def _delete_pool(self) -> None: ...

    @abstractmethod
    async def _has_layer(self, digest: str) -> bool: ...

    @abstractmethod
    async def _add_layer(self, digest: str, unpack: Unpack) -> None:
        """Whole and durable when it returns; nothing is left when it fails or is cancelled."""

    @abstractmethod
    async def _drop_partial_layer(self, digest: str) -> None: ...

    @abstractmethod
    async def _has_volume(self, id: str) -> bool: ...

    @abstractmethod
    async def _create_volume(self, volume: Volume) -> None: ...

    @abstractmethod
    async def _delete_volume(self, id: str) -> None: ...

    @abstractmethod
    async def _mount(self, volume: Volume) -> Path:
        """Fine when it is mounted."""

    @abstractmethod
    async def _is_mounted(self, id: str) -> bool: ...

    @abstractmethod
    async def _unmount(self, id: str) -> None: ...

    @abstractmethod
    async def volumes(self) -> tuple[str, ...]:
        """Ids of all volumes on the host."""

    @abstractmethod
    async def layers(self) -> tuple[str, ...]:
        """Digests of all layers on the host."""

    @abstractmethod
    async def delete_layer(self, digest: str) -> None:
        """Remove an unpacked layer that no volume uses."""

    @abstractmethod
    async def clean(self) -> None:
        """Remove half-made layers and temporary files of a daemon that died."""

    @abstractmethod
    async def usage(self, volume: Volume) -> int:
        """Bytes the volume holds of its own."""

    @abstractmethod
    async def space(self) -> Space:
        """Size and use of the pool."""
