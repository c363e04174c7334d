"""Pools in a directory of an existing file system, without quotas."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from isola.host import Host
from isola.model.probe import Probe
from isola.model.storage import Pool
from isola.settings import Setting, Settings, text
from isola.storage.capabilities import NOT_YET, Feature, StorageCapabilities
from isola.storage.place import clear_trial, no_size, require_empty, source_path, tried
from isola.storage.trees import TreeDriver


class DirectoryDriver(TreeDriver):
    """Below Isola's directory, or in an empty directory that ``source`` names."""

    contents_name: ClassVar = "volumes"
    """What a place cannot hold that fails the trial."""

    def __init__(self, host: Host, pool: Pool, directory: Path) -> None:
        super().__init__(host, pool, directory, Path(pool.config.get("source") or directory))

    @staticmethod
    @abstractmethod
    async def try_out(host: Host, place: Path) -> None:
        """Raise HostFailure where the driver does not work in an empty directory."""

    @classmethod
    async def probe(cls, host: Host, trials: Path) -> Probe:
        """Tries it out in a directory."""
        return await tried(host, trials / "directory", lambda place: cls.try_out(host, place))

    async def check_place(self) -> None:
        """A ``source`` must exist, be empty, and pass the trial."""
        if self.base != self.directory:
            await require_empty(
                self.host, self.base, f"cannot hold {self.contents_name}", lambda place: self.try_out(self.host, place)
            )

    async def clean(self) -> None:
        """Also removes trials in the directory."""
        await super().clean()
        await clear_trial(self.host, self.base / ".trial")


def without_quotas(driver: str, *, shared_layers: bool = False) -> tuple[StorageCapabilities, Settings]:
    reason = f"pools of the {driver} driver use the space of their file system and cannot be limited"
    settings = Settings(
        "storage pool",
        Setting("source", source_path, "An empty directory for the pool, instead of one below Isola's directory"),
        Setting("size", no_size(reason), "Not supported by this driver, which has no quotas"),
        Setting("volume.size", no_size(reason), "Not supported by this driver, which has no quotas"),
        Setting("user.*", text, "User-defined, not interpreted"),
        Setting("volatile.*", text, "Internal data of the daemon", read_only=True),
    )
    missing = {**NOT_YET, Feature.QUOTA: f"{reason}: use a btrfs pool"}
    return StorageCapabilities(shared_layers=shared_layers, missing=missing), settings
