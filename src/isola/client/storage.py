"""Storage pools and volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from isola.client.nouns import Nouns
from isola.client.operations import Operation
from isola.client.paths import ROOT
from isola.client.shapes import PoolInfo, VolumeInfo


class Storage(Nouns[PoolInfo]):
    """The daemon's storage pools, which have their names for good."""

    root = f"{ROOT}/storage-pools"

    def create(self, name: str, driver: str, config: Mapping[str, str], description: str = "") -> Operation:
        """Make a pool."""
        return self._create({"name": name, "driver": driver, "config": dict(config), "description": description})

    def space(self, name: str) -> dict[str, dict[str, int]]:
        """``{"space": {"used", "total"}, "inodes": {"used", "total"}}``."""
        return cast("dict[str, dict[str, int]]", self._client.get(f"{self._path(name)}/resources"))

    def volumes(self, name: str) -> list[VolumeInfo]:
        """What lies in it."""
        return cast("list[VolumeInfo]", self._client.get(f"{self._path(name)}/volumes", {"recursion": 1}))
