"""Storage pools and volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from isola.client.api import Api, quote
from isola.client.operations import Operation, begin
from isola.client.shapes import PoolInfo, VolumeInfo

_ROOT = "/1.0/storage-pools"


class Storage:
    """The daemon's storage pools."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self) -> list[PoolInfo]:
        return cast("list[PoolInfo]", self._client.get(_ROOT, {"recursion": 1}))

    def get(self, name: str) -> PoolInfo:
        """One pool. Raises NotFound."""
        return cast(PoolInfo, self._client.get(f"{_ROOT}/{quote(name)}"))

    def read(self, name: str) -> tuple[PoolInfo, str]:
        """One pool and its ETag."""
        reply = self._client.call("GET", f"{_ROOT}/{quote(name)}")
        return cast(PoolInfo, reply.metadata), reply.etag

    def create(self, name: str, driver: str, config: Mapping[str, str], description: str = "") -> Operation:
        """Make a pool."""
        body = {"name": name, "driver": driver, "config": dict(config), "description": description}
        return begin(self._client, "POST", _ROOT, body)

    def update(self, name: str, config: Mapping[str, str], description: str, *, etag: str = "") -> Operation:
        """Replace configuration and description; with ``etag`` only what was read under it."""
        body = {"config": dict(config), "description": description}
        headers = (("If-Match", etag),) if etag else ()
        return begin(self._client, "PUT", f"{_ROOT}/{quote(name)}", body, headers=headers)

    def delete(self, name: str) -> Operation:
        """Remove it with what it holds. Raises InUse."""
        return begin(self._client, "DELETE", f"{_ROOT}/{quote(name)}")

    def space(self, name: str) -> dict[str, dict[str, int]]:
        """``{"space": {"used", "total"}, "inodes": {"used", "total"}}``."""
        return cast("dict[str, dict[str, int]]", self._client.get(f"{_ROOT}/{quote(name)}/resources"))

    def volumes(self, name: str) -> list[VolumeInfo]:
        """What lies in it."""
        return cast("list[VolumeInfo]", self._client.get(f"{_ROOT}/{quote(name)}/volumes", {"recursion": 1}))
