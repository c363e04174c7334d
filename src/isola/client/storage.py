"""Storage pools and volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from isola.client.nouns import Nouns
from isola.client.operations import Operation
from isola.client.paths import ROOT
from isola.client.shapes import PoolInfo, VolumeInfo


class Storage(Nouns[PoolInfo]):
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
