"""Storage pools and volumes."""

from __future__ import annotations

from isola.client.api import cast
from isola.client.nouns import Nouns
from isola.client.operations import Operation
from isola.client.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from isola.client.shapes import PoolInfo, VolumeInfo  # noqa: F401  named in a string


class Storage(Nouns["PoolInfo"]):
    """The daemon's storage pools. They cannot be renamed."""

    root = f"{ROOT}/storage-pools"

    def create(self, name: str, driver: str, config: Mapping[str, str], description: str = "") -> Operation:
        return self._create({"name": name, "driver": driver, "config": dict(config), "description": description})

    def space(self, name: str) -> dict[str, dict[str, int]]:
        """``{"space": {"used", "total"}, "inodes": {"used", "total"}}``."""
        return cast("dict[str, dict[str, int]]", self._client.get(f"{self._path(name)}/resources"))

    def volumes(self, name: str) -> list[VolumeInfo]:
        """All volumes in a pool, of any type."""
        return cast("list[VolumeInfo]", self._client.get(f"{self._path(name)}/volumes", {"recursion": 1}))
