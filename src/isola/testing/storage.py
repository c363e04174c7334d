"""A small storage driver within a fake host; what it holds survives the object, as on a real host."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from isola.errors import NotFound
from isola.host import Host
from isola.host.cancellation import finish
from isola.host.mounts import OverlayMount
from isola.model.probe import Probe
from isola.model.storage import Space, Volume
from isola.settings import Setting, Settings, text
from isola.storage.driver import StorageCapabilities, StorageDriver, Unpack


class FakeStorage(StorageDriver):
    """The shortest driver that keeps every promise; it stands on the ports of the fake host it is given."""

    capabilities: ClassVar = StorageCapabilities()
    settings: ClassVar = Settings("storage pool", Setting("user.*", text, "Anything"))

    @classmethod
    async def probe(cls, host: Host, trials: Path) -> Probe:
        """Always there."""
        return Probe(True, "1")

    async def _create_pool(self) -> None:
        for name in ("layers", "volumes", "empty"):
            await self.host.files.make_directory(self.directory / name)

    async def _delete_pool(self) -> None:
        for id in await self.volumes():
            await self._unmount(id)
        await self.host.files.remove_tree(self.directory)

    async def _has_layer(self, digest: str) -> bool:
        return await self.host.files.exists(self._layer(digest))

    async def _add_layer(self, digest: str, unpack: Unpack) -> None:
        partial = self._layer(digest).with_suffix(".partial")
        try:
            await self.host.files.make_directory(partial)
            await unpack(partial)
            await self.host.files.rename(partial, self._layer(digest))
        except BaseException:
            await finish(self.host.files.remove_tree(partial))
            raise

    async def _drop_partial_layer(self, digest: str) -> None:
        await self.host.files.remove_tree(self._layer(digest).with_suffix(".partial"))

    async def _has_volume(self, id: str) -> bool:
        return await self.host.files.exists(self._volume(id))

    async def _create_volume(self, volume: Volume) -> None:
        for digest in volume.layers:
            if not await self._has_layer(digest):
                raise NotFound(f"Layer {digest} is not here")
        owner = volume.idmap.base if volume.idmap else 0
        for name in ("work", "root", "upper"):
            await self.host.files.make_directory(self._volume(volume.id) / name, mode=0o755, owner=owner)

    async def _delete_volume(self, id: str) -> None:
        await self._unmount(id)
        await self.host.files.remove_tree(self._volume(id))

    async def _mount(self, volume: Volume) -> Path:
        place = self._volume(volume.id)
        if not await self._has_volume(volume.id):
            raise NotFound(f"Volume {volume.id} is not here")
        if not await self._is_mounted(volume.id):
            layers = tuple(self._layer(digest) for digest in volume.layers) or (self.directory / "empty",)
            await self.host.mounts.overlay(
                OverlayMount(layers, place / "upper", place / "work", place / "root", volume.idmap)
            )
        return place / "root"

    async def _is_mounted(self, id: str) -> bool:
        return await self.host.mounts.mounted(self._volume(id) / "root")

    async def _unmount(self, id: str) -> None:
        await self.host.mounts.unmount(self._volume(id) / "root")

    async def volumes(self) -> tuple[str, ...]:
        """Ids of all volumes."""
        return await self.host.files.names(self.directory / "volumes")

    async def layers(self) -> tuple[str, ...]:
        """Digests of all layers."""
        names = await self.host.files.names(self.directory / "layers")
        return tuple(f"sha256:{name}" for name in names if not name.endswith(".partial"))

    async def delete_layer(self, digest: str) -> None:
        """Remove a layer."""
        async with self._lock(digest):
            await self.host.files.remove_tree(self._layer(digest))

    async def clean(self) -> None:
        """Remove half-made layers."""
        for name in await self.host.files.names(self.directory / "layers"):
            if name.endswith(".partial"):
                await self.host.files.remove_tree(self.directory / "layers" / name)

    async def usage(self, volume: Volume) -> int:
        """What it holds of its own."""
        return await self.host.files.disk_usage(self._volume(volume.id))

    async def space(self) -> Space:
        """Of the fake file system."""
        return await self.host.files.space(self.directory)

    def _layer(self, digest: str) -> Path:
        return self.directory / "layers" / digest.removeprefix("sha256:")

    def _volume(self, id: str) -> Path:
        return self.directory / "volumes" / id
