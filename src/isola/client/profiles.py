"""Profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from isola.client.api import Api, quote
from isola.client.operations import Operation, begin
from isola.client.shapes import ProfileInfo

_ROOT = "/1.0/profiles"


class Profiles:
    """Configuration and devices shared by instances."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self) -> list[ProfileInfo]:
        return cast("list[ProfileInfo]", self._client.get(_ROOT, {"recursion": 1}))

    def get(self, name: str) -> ProfileInfo:
        """One profile. Raises NotFound."""
        return cast(ProfileInfo, self._client.get(f"{_ROOT}/{quote(name)}"))

    def read(self, name: str) -> tuple[ProfileInfo, str]:
        """One profile and its ETag."""
        reply = self._client.call("GET", f"{_ROOT}/{quote(name)}")
        return cast(ProfileInfo, reply.metadata), reply.etag

    def create(self, name: str, profile: Mapping[str, object] | None = None) -> None:
        """Make a profile of ``config``, ``devices`` and ``description``."""
        self._client.call("POST", _ROOT, {**(profile or {}), "name": name})

    def update(self, name: str, profile: Mapping[str, object], *, etag: str = "") -> Operation:
        """Replace it; with ``etag`` only what was read under it."""
        headers = (("If-Match", etag),) if etag else ()
        return begin(self._client, "PUT", f"{_ROOT}/{quote(name)}", dict(profile), headers=headers)

    def rename(self, name: str, new: str) -> None:
        """Give it another name."""
        self._client.call("POST", f"{_ROOT}/{quote(name)}", {"name": new})

    def delete(self, name: str) -> None:
        """Raises InUse."""
        self._client.call("DELETE", f"{_ROOT}/{quote(name)}")
