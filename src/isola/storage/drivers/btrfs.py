"""Volumes as btrfs subvolumes: copies and snapshots are instant, and the size of each volume can be limited.

Depending on ``source``, the file system is in an image file (the default), on a block device, or an existing one with
the pool in a directory. The layout of the pool is that of trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from isola.errors import HostFailure, InvalidInput, NotFound
from isola.host import Host
from isola.host.mounts import DiskMount
from isola.model.probe import Probe
from isola.model.storage import Pool
from isola.model.units import parse_size
from isola.settings import Setting, Settings, text
from isola.storage.capabilities import NOT_YET, Feature, StorageCapabilities
from isola.storage.foreign import names_in
from isola.storage.layers import LayerStore
from isola.storage.place import clear_trial, nearest, require_empty, source_path, try_shifting
from isola.storage.sizes import DEFAULT_ROOT_SIZE, size_or_percent
from isola.storage.tree_layers import TreeLayers, Trees
from isola.storage.trees import TreeDriver
from isola.storage.volume_settings import DEFAULTS

_SMALLEST = 256 << 20
_DEFAULT_LEAST, _DEFAULT_MOST = 5 << 30, 30 << 30
_OPTIONS = "user_subvol_rm_allowed"
_MARK, _IMAGE = "isola-pool", "disk.img"
_PROGRAM = "mkfs.btrfs"


def _size(value: str) -> int:
    if (size := parse_size(value)) < _SMALLEST:
        raise ValueError("a btrfs pool needs at least 256MiB")
    return size


def _options(value: str) -> str:
    if any(not (character.isalnum() or character in "_-=,:.") for character in value):
        raise ValueError("expected mount options separated by commas")
    return value


class Subtrees(Trees):
    """Trees that are subvolumes."""

    instant = True

    async def create(self, path: Path, *, mode: int) -> None:
        """Owner and mode are set on the new subvolume's root."""
        await self.host.subvolumes.create(path)
        await self.host.files.make_directory(path, mode=mode, owner=0)

    async def clone(self, source: Path, target: Path) -> None:
        """An instant snapshot. Writable, because a read-only one could not be renamed; only root can access it."""
        await self.host.subvolumes.snapshot(source, target)

    async def copy(self, source: Path, target: Path) -> None:
        """From a pool of another driver: into a subvolume, which replaces the plain copy."""
        await self.host.subvolumes.create(target)
        await self.host.files.copy_tree(source, target, into=True)

    async def remove(self, path: Path) -> None:
        """Subvolumes in one call, directories as a tree."""
        if not await self.host.subvolumes.delete(path):
            await self.host.files.remove_tree(path)

    async def destroy(self, place: Path) -> None:
        """A directory can only be removed without the subvolumes in it."""
        if await self.host.subvolumes.delete(place):
            return
        for holder in (place / "snapshots", place):
            for name in await names_in(self.host, holder):
                await self.remove(holder / name)
        await self.host.files.remove_tree(place)

    async def limit(self, path: Path, size: int | None) -> None:
        """By its quota group."""
        await self.host.subvolumes.limit(path, size)

    async def usage(self, path: Path) -> int:
        """As the file system counts; where it does not, as a walk finds."""
        counted = await self.host.subvolumes.usage(path)
        return await self.host.files.disk_usage(path) if counted is None else counted


class BtrfsDriver(TreeDriver):
    """One pool of subvolumes."""

    own_names = (_IMAGE, _MARK)
    capabilities: ClassVar = StorageCapabilities(instant_copies=True, missing=NOT_YET)
    settings: ClassVar = Settings(
        "storage pool",
        Setting(
            "source",
            source_path,
            "A block device (below /dev), which will be formatted, or an empty directory on a btrfs file system;"
            " when not set, the pool creates an image file",
        ),
        Setting(
            "size",
            _size,
            "Size of the image file, which is sparse; can be raised, not lowered;"
            " when not set, a fifth of the free space, from 5GiB to 30GiB",
        ),
        Setting(
            "volume.size",
            size_or_percent,
            "Limit of the roots of new instances without a size of their own: bytes, or a part of the pool;"
            " a pool with a disk of its own gets 80% when it is created; when unset, they have no limit",
        ),
        Setting("btrfs.mount_options", _options, "Mount options", _OPTIONS),
        *DEFAULTS,
        Setting("user.*", text, "User-defined, not interpreted"),
        Setting("volatile.*", text, "Internal data of the daemon", read_only=True),
    )

    def __init__(self, host: Host, pool: Pool, directory: Path) -> None:
        self._source = Path(pool.config.get("source") or directory / _IMAGE)
        self._is_device = self._source.is_relative_to("/dev")
        self._has_disk = self._is_device or not pool.config.get("source")
        super().__init__(host, pool, directory, directory / "disk" if self._has_disk else self._source)

    def _make_trees(self) -> Trees:
        return Subtrees(self.host, self._partial)

    def _make_layers(self) -> LayerStore:
        return TreeLayers(self.host, self.base / "layers", self.pool.name, self.trees, self._trash.discard, each=True)

    @classmethod
    async def probe(cls, host: Host, trials: Path) -> Probe:
        """Looks for the file system in the kernel and for its program, without starting it."""
        version = host.system.kernel().release
        if "btrfs" not in host.system.file_systems():
            return Probe(False, version, reason="The kernel has no btrfs", remedy="load the module 'btrfs'")
        if host.system.find_program(_PROGRAM) is None:
            return Probe(False, version, reason=f"{_PROGRAM} is missing", remedy="install the package btrfs-progs")
        return Probe(True, version)

    async def complete(self, config: Mapping[str, str]) -> Mapping[str, str]:
        """With the default sizes of an image file, and of the roots on a disk of its own, which has quotas."""
        if self._has_disk:
            config = {"volume.size": DEFAULT_ROOT_SIZE, **config}
        if not self._has_disk or self._is_device or config.get("size"):
            return config
        space = await self.host.files.space(await nearest(self.host, self.directory))
        size = max(_DEFAULT_LEAST, min((space.total - space.used) // 5, _DEFAULT_MOST))
        return {**config, "size": f"{size >> 20}MiB"}

    async def check_place(self) -> None:
        """A device must exist and be empty; a directory must exist, be empty, and be on btrfs."""
        if self._has_disk:
            if self._is_device and not await self.host.files.exists(self._source):
                raise InvalidInput(f"{self._source} does not exist", field="config.source")
            return
        if self.pool.config.get("size"):
            raise InvalidInput(
                "A pool in a directory of an existing file system cannot have a size", field="config.size"
            )
        await require_empty(self.host, self.base, "cannot hold subvolumes", self._try)

    async def _try(self, place: Path) -> None:
        if not await self.host.subvolumes.supports(place):
            raise HostFailure(f"{self.base} is not on a btrfs file system")
        await try_shifting(self.host, place)

    async def why_not(self, feature: Feature) -> str:
        """On a file system that Isola did not create, quotas are used if its owner has enabled them."""
        if feature is Feature.QUOTA and not await self.host.subvolumes.has_quota(self.base):
            return (
                f"quotas are off: 'btrfs quota enable --simple {self.base}' enables them for data written from then on"
            )
        return await super().why_not(feature)

    # --- the disk -----------------------------------------------------------------------------------------------

    async def _create_pool(self) -> None:
        if not self._has_disk:
            await super()._create_pool()
            return
        await self.host.files.make_directory(self.directory, self.base, mode=0o711)
        if not self._is_device:
            await self.host.files.allocate(self._source, _size(self.pool.config.get("size") or f"{_DEFAULT_LEAST}"))
        await self.host.subvolumes.format(self._source, f"isola-{self.pool.name}"[:255])
        await self._mount()
        await self.host.subvolumes.enable_quota(self.base)
        await self.host.files.write(self.base / _MARK, self.pool.name.encode())
        await super()._create_pool()

    async def _mount(self) -> None:
        options = self.pool.config.get("btrfs.mount_options") or _OPTIONS
        await self.host.mounts.disk(DiskMount(self._source, self.base, "btrfs", options))
        await self.host.files.make_directory(self.base, mode=0o711, owner=0)

    async def open(self) -> None:
        """Mounts the disk. Raises HostFailure if it is missing or has another file system."""
        if self._has_disk and not await self.host.mounts.mounted(self.base):
            if not await self.host.files.exists(self._source):
                raise HostFailure(f"{self._source} is missing", remedy="restore it, then restart the daemon")
            await self._mount()
            try:
                await self._require_ours()
            except BaseException:
                await self.host.mounts.unmount(self.base)
                raise
        if not self._has_disk and not await self.host.files.exists(self.base / "volumes"):
            raise HostFailure(f"{self.base} is missing or not mounted", remedy="mount it, then restart the daemon")
        await super().open()

    async def close(self) -> None:
        """Unmounts the disk, unless a volume is still mounted."""
        await self.settled()
        if self._has_disk and await self.host.mounts.below(self.base) == (self.base,):
            await self.host.mounts.unmount(self.base)

    async def _require_ours(self) -> None:
        try:
            found = await self.host.files.read(self.base / _MARK, 256)
        except NotFound:
            found = b""
        if found != self.pool.name.encode():
            raise HostFailure(f"{self._source} contains another file system than that of pool {self.pool.name!r}")

    async def update_pool(self, config: Mapping[str, str]) -> None:
        """An image file can grow while it is used."""
        old, new = self.pool.config.get("size") or "", config.get("size") or ""
        if old == new:
            return
        if not self._has_disk or self._is_device:
            raise InvalidInput("Only pools with their own image file have a size", field="config.size")
        if not new or _size(new) < await self.host.files.size(self._source):
            raise InvalidInput(
                "A pool cannot shrink", field="config.size", remedy="create a smaller pool and move the volumes there"
            )
        await self.host.files.allocate(self._source, _size(new))
        await self.host.mounts.grow(self.base)
        await self.host.subvolumes.fill_device(self.base)

    async def _delete_pool(self) -> None:
        if not self._has_disk:
            await super()._delete_pool()
            return
        await self.settled()
        await self._unmount_below(self.directory)
        await self.host.mounts.unmount(self.base)
        await self.host.files.remove_tree(self.directory)
        await self.host.files.flush(self.directory.parent)

    async def clean(self) -> None:
        """Also removes trials in the directory."""
        await super().clean()
        await clear_trial(self.host, self.base / ".trial")


DRIVER = BtrfsDriver
