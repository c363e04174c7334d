"""Volumes as overlays: a plain upper directory over image layers that all instances share in place.

Layout of a pool::

    layers/<hex digest>/            an unpacked layer with the ids of the image; never written again
    volumes/<id>/upper, work, root  what the instance changed, overlay's own, and where the whole is mounted
    descriptions/<id>.json          what the instance was, for the day on which its record is lost
    empty/                          stands below volumes that have no layers

What is half made or half removed has a name that begins with a dot. Nobody but root may enter ``layers``: it holds
other people's setuid programs with real ids. A volume's directory may only be passed through by its own root.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from isola.errors import HostFailure, InvalidInput, IsolaError, NotFound
from isola.host import Host
from isola.host.cancellation import finish
from isola.host.mounts import OverlayMount
from isola.model.identity import IdRange
from isola.model.probe import Probe
from isola.model.storage import Pool, Space, Volume
from isola.settings import Setting, Settings, text
from isola.storage.driver import StorageCapabilities, StorageDriver, Unpack

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_ALGORITHM = "sha256:"
_PARTIAL, _DELETED = ".partial-", ".deleted-"
_TRIAL_RANGE = IdRange(100000)


def _place(value: str) -> str:
    path = Path(value)
    if "\0" in value or not path.is_absolute() or ".." in path.parts:
        raise ValueError("an absolute path of an empty directory is expected")
    return value


def _no_quota(value: str) -> str:
    raise ValueError("pools of the overlay driver take the room of their file system and cannot be limited")


class OverlayDriver(StorageDriver):
    """One pool of overlays in a directory."""

    capabilities: ClassVar = StorageCapabilities(shared_layers=True)
    settings: ClassVar = Settings(
        "storage pool",
        Setting("source", _place, "An empty directory to hold the pool, instead of one of Isola's own"),
        Setting("size", _no_quota, "Not for this driver: it has no quotas"),
        Setting("user.*", text, "Anything you like, for your own use"),
        Setting("volatile.*", text, "Kept by the daemon", read_only=True),
    )

    def __init__(self, host: Host, pool: Pool, directory: Path) -> None:
        super().__init__(host, pool, directory)
        self._base = Path(pool.config.get("source") or directory)
        self._layers = self._base / "layers"
        self._volumes = self._base / "volumes"
        self._empty = self._base / "empty"

    @classmethod
    async def probe(cls, host: Host, trials: Path) -> Probe:
        """Mounts a real overlay over an id-mapped layer."""
        place = trials / "overlay"
        version = host.system.kernel().release
        try:
            await host.files.make_directory(place, mode=0o700)
            await _try_overlay(host, place)
        except IsolaError as error:
            why = f"{error.message}: {error.evidence}" if error.evidence else error.message
            return Probe(False, version, reason=why, remedy=error.remedy)
        finally:
            await finish(_remove_trial(host, place))
        return Probe(True, version)

    @property
    def place(self) -> Path:
        """The source, where there is one."""
        return self._base

    async def check_place(self) -> None:
        """A ``source`` must be there, empty, and fit for overlays."""
        if "source" not in self.pool.config or not self.pool.config["source"]:
            return
        if not await self.host.files.exists(self._base):
            raise InvalidInput(f"{self._base} does not exist", field="config.source", remedy="make the directory first")
        if await self.host.files.names(self._base):
            raise InvalidInput(f"{self._base} is not empty", field="config.source", remedy="name an empty directory")
        trial = self._base / ".trial"
        try:
            await self.host.files.make_directory(trial, mode=0o700)
            await _try_overlay(self.host, trial)
        except HostFailure as error:
            raise InvalidInput(
                f"{self._base} cannot hold overlays", evidence=str(error), field="config.source"
            ) from error
        finally:
            await finish(_remove_trial(self.host, trial))

    async def _create_pool(self) -> None:
        files = self.host.files
        await files.make_directory(self._base)
        await files.make_directory(self._layers, mode=0o700)
        await files.make_directory(self._volumes)
        await files.make_directory(self._empty, mode=0o755)
        below = (self._base, *self._base.parents) if self._base == self.directory else (self._base,)
        await files.flush(self._layers, self._volumes, self._empty, *below[:3])

    async def _delete_pool(self) -> None:
        for mount in await self.host.mounts.below(self._base):
            if mount != self._base:
                await self.host.mounts.unmount(mount)
        for directory in (self._volumes, self._layers, self._empty, self.descriptions):
            await self.host.files.remove_tree(directory)
        await self.host.files.remove_tree(self.directory)
        await self.host.files.flush(self._base, self.directory.parent)

    # --- layers -------------------------------------------------------------------------------------------------

    async def _has_layer(self, digest: str) -> bool:
        return await self.host.files.exists(self._layer(digest))

    async def _add_layer(self, digest: str, unpack: Unpack) -> None:
        files, partial = self.host.files, self._partial(digest)
        try:
            await files.remove_tree(partial)
            await files.make_directory(partial, mode=0o755)
            await unpack(partial)
            await files.sync(partial)
            await files.rename(partial, self._layer(digest))
        except BaseException:
            await finish(files.remove_tree(partial))
            raise

    async def _drop_partial_layer(self, digest: str) -> None:
        await self.host.files.remove_tree(self._partial(digest))

    async def layers(self) -> tuple[str, ...]:
        """Digests of all layers on the host."""
        names = await self.host.files.names(self._layers)
        return tuple(_ALGORITHM + name for name in names if not name.startswith("."))

    async def delete_layer(self, digest: str) -> None:
        """First out of sight, then away: a layer that is there is whole."""
        async with self._lock(digest):
            await self._remove(self._layer(digest))

    def _layer(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput(f"Invalid layer digest {digest[:80]!r}", remedy="sha256: and 64 hex digits are expected")
        return self._layers / digest.removeprefix(_ALGORITHM)

    def _partial(self, digest: str) -> Path:
        return self._layers / (_PARTIAL + self._layer(digest).name)

    # --- volumes ------------------------------------------------------------------------------------------------

    async def _has_volume(self, id: str) -> bool:
        return await self.host.files.exists(self._volume(id))

    async def _create_volume(self, volume: Volume) -> None:
        files, place = self.host.files, self._volume(volume.id)
        lower = self._lower(volume)
        for digest, layer in zip(volume.layers, lower, strict=False):
            if not await files.exists(layer):
                raise NotFound(f"Layer {digest[7:19]} is not in storage pool {self.pool.name!r}")
        async with files.root(lower[-1]) as top:
            mode = (await top.stat("/")).mode
        owner = volume.idmap.base if volume.idmap else 0
        await files.make_directory(place, mode=0o100, owner=owner)
        await files.make_directory(place / "work", mode=0o700)
        await files.make_directory(place / "root", mode=0o755)
        await files.make_directory(place / "upper", mode=mode, owner=owner)
        # The record that names it is written next, and may reach the disk without what came before it.
        await files.flush(place / "upper", place, self._volumes)

    async def _delete_volume(self, id: str) -> None:
        place = self._volume(id)
        await self.host.mounts.unmount(place / "root")
        await self._remove(place)

    async def _mount(self, volume: Volume) -> Path:
        place = self._volume(volume.id)
        root = place / "root"
        if not await self.host.mounts.mounted(root):
            if not await self.host.files.exists(root):
                raise NotFound(f"Volume {volume.id} is not in storage pool {self.pool.name!r}")
            await self.host.mounts.overlay(
                OverlayMount(self._lower(volume), place / "upper", place / "work", root, volume.idmap)
            )
        return root

    async def _is_mounted(self, id: str) -> bool:
        return await self.host.mounts.mounted(self._volume(id) / "root")

    async def _unmount(self, id: str) -> None:
        await self.host.mounts.unmount(self._volume(id) / "root")

    async def volumes(self) -> tuple[str, ...]:
        """Ids of all volumes on the host."""
        names = await self.host.files.names(self._volumes)
        return tuple(name for name in names if not name.startswith("."))

    def _volume(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise InvalidInput(f"Invalid volume id {id[:80]!r}")
        return self._volumes / id

    def _lower(self, volume: Volume) -> tuple[Path, ...]:
        return tuple(self._layer(digest) for digest in volume.layers) or (self._empty,)

    # --- the pool as a whole ------------------------------------------------------------------------------------

    async def clean(self) -> None:
        """Whatever a daemon left that died in the middle of something."""
        for mount in await self.host.mounts.below(self._base):
            if mount != self._base and (mount.parent.parent != self._volumes or mount.name != "root"):
                await self.host.mounts.unmount(mount)
        await self.host.files.remove_tree(self._base / ".trial")
        for directory in (self._layers, self._volumes):
            for name in await self.host.files.names(directory):
                if name.startswith((_PARTIAL, _DELETED)):
                    await self.host.files.remove_tree(directory / name)

    async def usage(self, volume: Volume) -> int:
        """What the instance wrote over its layers."""
        return await self.host.files.disk_usage(self._volume(volume.id) / "upper")

    async def space(self) -> Space:
        """Of the file system the pool lies on."""
        return await self.host.files.space(self._base)

    async def _remove(self, place: Path) -> None:
        """Out of sight at once, then away; fine when it is not there."""
        gone = place.with_name(_DELETED + place.name)
        await self.host.files.remove_tree(gone)
        try:
            await self.host.files.rename(place, gone)
        except NotFound:
            return
        await self.host.files.remove_tree(gone)


async def _try_overlay(host: Host, place: Path) -> None:
    """Raise HostFailure where a file of a layer does not show with shifted ids through an overlay."""
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
                "Ids are not shifted through an overlay", evidence=f"{owner}", remedy="Linux 5.19 or later is needed"
            )
    finally:
        await finish(host.mounts.unmount(root))


async def _remove_trial(host: Host, place: Path) -> None:
    for mount in await host.mounts.below(place):
        await host.mounts.unmount(mount)
    await host.files.remove_tree(place)


DRIVER = OverlayDriver
