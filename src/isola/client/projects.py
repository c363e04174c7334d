"""Projects."""

from __future__ import annotations

from isola.client.api import cast
from isola.client.nouns import Nouns
from isola.client.operations import Operation
from isola.client.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any  # noqa: F401  named in a string


class Projects(Nouns["dict[str, Any]"]):
    """The daemon's projects. ``Api.project`` selects the project of all other requests."""

    root = f"{ROOT}/projects"

    def usage(self, name: str) -> dict[str, dict[str, int]]:
        """Name of the resource -> ``Limit`` (-1: none) and ``Usage``."""
        state = cast("dict[str, Any]", self._client.get(f"{self._path(name)}/state"))
        return cast("dict[str, dict[str, int]]", state["resources"])

    def create(self, name: str, config: Mapping[str, str], description: str = "") -> Operation:
        """Raises AlreadyExists, InvalidInput."""
        return self._create({"name": name, "config": dict(config), "description": description})
