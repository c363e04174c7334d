"""Profiles."""

from __future__ import annotations

from isola.client.nouns import Nouns
from isola.client.operations import Operation
from isola.client.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from isola.client.shapes import ProfileInfo  # noqa: F401  named in a string


class Profiles(Nouns["ProfileInfo"]):
    """Configuration and devices shared by instances."""

    root = f"{ROOT}/profiles"

    def create(self, name: str, profile: Mapping[str, object] | None = None) -> Operation:
        """``profile``: ``config``, ``devices`` and ``description``. Raises AlreadyExists."""
        return self._create({**(profile or {}), "name": name})
