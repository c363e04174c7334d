"""Pools in a directory of an existing file system, whose project quotas limit volumes if it has any."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from isola.errors import InvalidInput
from isola.host import Host
from isola.model.probe import Probe
from isola.model.storage import Pool
from isola.settings import Setting, Settings, text
from isola.storage.capabilities import NOT_YET, Feature, StorageCapabilities
from isola.storage.layers import LayerStore
from isola.storage.limited_trees import NO_PROJECTS, LimitedTrees
from isola.storage.place import clear_trial, nearest, no_size, require_empty, source_path, tried
from isola.storage.sizes import DEFAULT_ROOT_SIZE, size_or_percent
from isola.storage.tree_layers import TreeLayers, Trees
from isola.storage.trees import TreeDriver
from isola.storage.volume_settings import DEFAULTS


class DirectoryDriver(TreeDriver):
    """Below Isola's directory, or in an empty directory that ``source`` names."""

    trees: LimitedTrees
    contents_name: ClassVar = "volumes"
    """What a place cannot hold that fails the trial."""

    def __init__(self, host: Host, pool: Pool, directory: Path) -> None:
        super().__init__(host, pool, directory, Path(pool.config.get("source") or directory))

    def _make_trees(self) -> Trees:
        return LimitedTrees(self.host, self._partial)

    def _make_layers(self) -> LayerStore:
        # Without projects: files are moved from one layer into another.
        plain = Trees(self.host, self._partial)
        return TreeLayers(self.host, self.base / "layers", self.pool.name, plain, self._trash.discard)

    @staticmethod
    @abstractmethod
    async def try_out(host: Host, place: Path) -> None:
        """Raise HostFailure where the driver does not work in an empty directory."""

    @classmethod
    async def probe(cls, host: Host, trials: Path) -> Probe:
        """Tries it out in a directory."""
        return await tried(host, trials / "directory", lambda place: cls.try_out(host, place))

    async def complete(self, config: Mapping[str, str]) -> Mapping[str, str]:
        """With the default limit of roots, where there are quotas."""
        enforced = await self.host.tree_quotas.enforced(await nearest(self.host, self.base))
        return {"volume.size": DEFAULT_ROOT_SIZE, **config} if enforced else config

    async def check_place(self) -> None:
        """A ``source`` must exist, be empty, and pass the trial."""
        await self._require_quotas(self.pool.config, await nearest(self.host, self.base))
        if self.base != self.directory:
            await require_empty(
                self.host, self.base, f"cannot hold {self.contents_name}", lambda place: self.try_out(self.host, place)
            )

    async def update_pool(self, config: Mapping[str, str]) -> None:
        """Volumes that exist keep their limits."""
        await self._require_quotas(config, self.base)

    async def _require_quotas(self, config: Mapping[str, str], place: Path) -> None:
        if config.get("volume.size") and not await self.host.tree_quotas.enforced(place):
            raise InvalidInput(
                f"Storage pool {self.pool.name!r} cannot limit volumes",
                field="config.volume.size",
                evidence=NO_PROJECTS,
            )

    async def _make_places(self) -> None:
        await super()._make_places()
        await self.trees.look()

    async def why_not(self, feature: Feature) -> str:
        """Quotas are used if the owner of the file system has enabled them."""
        if feature is Feature.QUOTA and not self.trees.enforced:
            return NO_PROJECTS
        return await super().why_not(feature)

    async def clean(self) -> None:
        """Also removes trials in the directory."""
        await super().clean()
        await clear_trial(self.host, self.base / ".trial")


def of_directories(driver: str, *, shared_layers: bool = False) -> tuple[StorageCapabilities, Settings]:
    """What both drivers offer, and their keys."""
    reason = f"pools of the {driver} driver use the space of their file system and cannot be limited"
    settings = Settings(
        "storage pool",
        Setting("source", source_path, "An empty directory for the pool, instead of one below Isola's directory"),
        Setting("size", no_size(reason), "Not supported by this driver: the pool uses the space of its file system"),
        Setting(
            "volume.size",
            size_or_percent,
            "Limit of the roots of new instances without a size of their own: bytes, or a part of the file system,"
            " which must have project quotas; a new pool with quotas gets 80%; when unset, they have no limit",
        ),
        *DEFAULTS,
        Setting("user.*", text, "User-defined, not interpreted"),
        Setting("volatile.*", text, "Internal data of the daemon", read_only=True),
    )
    return StorageCapabilities(shared_layers=shared_layers, missing=NOT_YET), settings
