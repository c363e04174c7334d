"""Projects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from isola.client.api import Api, quote
from isola.client.operations import Operation, begin
from isola.client.paths import ROOT

_ROOT = f"{ROOT}/projects"


class Projects:
    """What is kept apart from what; see ``Api.project`` for the one that everything else is asked in."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self) -> list[dict[str, Any]]:
        """Those that the caller may use."""
        return cast("list[dict[str, Any]]", self._client.get(_ROOT, {"recursion": 1}))

    def read(self, name: str) -> tuple[dict[str, Any], str]:
        """One project and its ETag. Raises NotFound."""
        reply = self._client.call("GET", f"{_ROOT}/{quote(name)}")
        return cast("dict[str, Any]", reply.metadata), reply.etag

    def usage(self, name: str) -> dict[str, dict[str, int]]:
        """What is limited -> ``Limit`` (-1: none) and ``Usage``."""
        state = cast("dict[str, Any]", self._client.get(f"{_ROOT}/{quote(name)}/state"))
        return cast("dict[str, dict[str, int]]", state["resources"])

    def create(self, name: str, config: Mapping[str, str], description: str = "") -> None:
        """Raises AlreadyExists, InvalidInput."""
        self._client.call("POST", _ROOT, {"name": name, "config": dict(config), "description": description})

    def update(self, name: str, project: Mapping[str, object], *, etag: str = "") -> Operation:
        """Replace ``config`` and ``description``; with ``etag`` only what was read under it."""
        headers = (("If-Match", etag),) if etag else ()
        return begin(self._client, "PUT", f"{_ROOT}/{quote(name)}", dict(project), headers=headers)

    def rename(self, name: str, new: str) -> Operation:
        """Give an empty project another name."""
        return begin(self._client, "POST", f"{_ROOT}/{quote(name)}", {"name": new})

    def delete(self, name: str) -> None:
        """Remove an empty project. Raises InUse."""
        self._client.call("DELETE", f"{_ROOT}/{quote(name)}")
