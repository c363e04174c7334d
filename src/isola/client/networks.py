"""Networks."""

from __future__ import annotations

from isola.client.api import cast
from isola.client.nouns import Nouns
from isola.client.operations import Operation
from isola.client.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from isola.client.shapes import LeaseInfo, NetworkInfo  # noqa: F401  named in a string


class Networks(Nouns["NetworkInfo"]):
    """The daemon's networks, and the host's other links."""

    root = f"{ROOT}/networks"

    def create(
        self, name: str, *, type: str = "bridge", config: Mapping[str, str] | None = None, description: str = ""
    ) -> Operation:
        """Create a managed network; missing addresses are chosen by the daemon."""
        return self._create({"name": name, "type": type, "config": dict(config or {}), "description": description})

    def leases(self, name: str) -> list[LeaseInfo]:
        """The addresses in use on it."""
        return cast("list[LeaseInfo]", self._client.get(f"{self._path(name)}/leases"))

    def state(self, name: str) -> dict[str, object]:
        """State of its link: addresses, counters, MTU."""
        return cast("dict[str, object]", self._client.get(f"{self._path(name)}/state"))
