"""Plain directories, for file systems that do not support overlayfs. Every volume is a full copy of its image."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from isola.host import Host
from isola.model.probe import Probe
from isola.model.storage import Pool
from isola.settings import Setting, Settings, text
from isola.storage.capabilities import NOT_YET, Feature, StorageCapabilities
from isola.storage.place import clear_trial, no_size, require_empty, source_path, tried, try_shifting
from isola.storage.trees import TreeDriver

_NO_QUOTA = "pools of the dir driver use the space of their file system and cannot be limited"


class DirDriver(TreeDriver):
    """One pool of trees in a directory. Copies share blocks on file systems with reflinks (XFS, btrfs)."""

    capabilities: ClassVar = StorageCapabilities(missing={**NOT_YET, Feature.QUOTA: f"{_NO_QUOTA}: use a btrfs pool"})
    settings: ClassVar = Settings(
        "storage pool",
        Setting("source", source_path, "An empty directory for the pool, instead of one below Isola's directory"),
        Setting("size", no_size(_NO_QUOTA), "Not supported by this driver, which has no quotas"),
        Setting("user.*", text, "User-defined, not interpreted"),
        Setting("volatile.*", text, "Internal data of the daemon", read_only=True),
    )

    def __init__(self, host: Host, pool: Pool, directory: Path) -> None:
        super().__init__(host, pool, directory, Path(pool.config.get("source") or directory))

    @classmethod
    async def probe(cls, host: Host, trials: Path) -> Probe:
        """Mounts a directory with shifted ids."""
        return await tried(host, trials / "dir", lambda place: try_shifting(host, place))

    async def check_place(self) -> None:
        """A ``source`` must exist, be empty, and support id-mapped mounts."""
        if self.base != self.directory:
            await require_empty(
                self.host, self.base, "cannot hold volumes", lambda place: try_shifting(self.host, place)
            )

    async def clean(self) -> None:
        """Also removes trials in the directory."""
        await super().clean()
        await clear_trial(self.host, self.base / ".trial")


DRIVER = DirDriver
