"""Networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from isola.client.api import Api, quote
from isola.client.operations import Operation, begin
from isola.client.shapes import LeaseInfo, NetworkInfo

_ROOT = "/1.0/networks"


class Networks:
    """The daemon's networks, and the host's links beside them."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self) -> list[NetworkInfo]:
        """All, managed or not."""
        return cast("list[NetworkInfo]", self._client.get(_ROOT, {"recursion": 1}))

    def get(self, name: str) -> NetworkInfo:
        """One network. Raises NotFound."""
        return cast(NetworkInfo, self._client.get(f"{_ROOT}/{quote(name)}"))

    def read(self, name: str) -> tuple[NetworkInfo, str]:
        """One network and its ETag."""
        reply = self._client.call("GET", f"{_ROOT}/{quote(name)}")
        return cast(NetworkInfo, reply.metadata), reply.etag

    def create(
        self, name: str, *, type: str = "bridge", config: Mapping[str, str] | None = None, description: str = ""
    ) -> Operation:
        """Make a managed network; what ``config`` leaves out is chosen."""
        body = {"name": name, "type": type, "config": dict(config or {}), "description": description}
        return begin(self._client, "POST", _ROOT, body)

    def update(self, name: str, config: Mapping[str, str], description: str, *, etag: str = "") -> Operation:
        """Replace configuration and description; with ``etag`` only what was read under it."""
        body = {"config": dict(config), "description": description}
        headers = (("If-Match", etag),) if etag else ()
        return begin(self._client, "PUT", f"{_ROOT}/{quote(name)}", body, headers=headers)

    def rename(self, name: str, new: str) -> Operation:
        """Give it another name."""
        return begin(self._client, "POST", f"{_ROOT}/{quote(name)}", {"name": new})

    def delete(self, name: str) -> Operation:
        """Take it down and delete its record. Raises InUse."""
        return begin(self._client, "DELETE", f"{_ROOT}/{quote(name)}")

    def leases(self, name: str) -> list[LeaseInfo]:
        """The addresses in use on it."""
        return cast("list[LeaseInfo]", self._client.get(f"{_ROOT}/{quote(name)}/leases"))

    def state(self, name: str) -> dict[str, object]:
        """What is observed of its link."""
        return cast("dict[str, object]", self._client.get(f"{_ROOT}/{quote(name)}/state"))
