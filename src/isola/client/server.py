"""The daemon itself."""

from __future__ import annotations

from isola.client.api import Api, cast
from isola.client.operations import Operation, begin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from isola.client.shapes import ServerInfo


class Server:
    """The daemon's environment and configuration, and its host's resources."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def info(self) -> ServerInfo:
        """Version, extensions, environment, and drivers with the results of their probes."""
        return cast("ServerInfo", self._client.get("/1.0"))

    def read(self) -> tuple[ServerInfo, str]:
        """The same, and the ETag of its configuration."""
        reply = self._client.call("GET", "/1.0")
        return cast("ServerInfo", reply.metadata), reply.etag

    def update(self, whole: Mapping[str, object], *, etag: str = "") -> Operation:
        """Replace its configuration; with ``etag`` only if it is unchanged."""
        headers = (("If-Match", etag),) if etag else ()
        return begin(self._client, "PUT", "/1.0", dict(whole), headers=headers)

    def keys(self, noun: str) -> list[str]:
        """Configuration keys of a noun (``instance``, ``network``, ``storage``, ``server``), of all its drivers."""
        return sorted(self.expected(noun))

    def expected(self, noun: str, kind: str = "") -> dict[str, str]:
        """Configuration key -> description of its values (``true or false``, ``one of a, b``).

        ``kind``: only the keys of this type of ``devices``.
        """
        document = self._client.get("/1.0/metadata/configuration")
        configs = document.get("configs", {}) if isinstance(document, dict) else {}
        groups = [
            group
            for name, found in configs.items()
            if (name == f"{noun}_{kind}" if kind else name.partition("_")[0] == noun)
            for group in found.values()
        ]
        return {
            key: str(about.get("expects", ""))
            for group in groups
            for row in group["keys"]
            for key, about in row.items()
        }

    def device_types(self) -> list[str]:
        document = self._client.get("/1.0/metadata/configuration")
        configs = document.get("configs", {}) if isinstance(document, dict) else {}
        return sorted(name.removeprefix("devices_") for name in configs if name.startswith("devices_"))

    def project_names(self) -> list[str]:
        """The projects that the caller may use."""
        paths = self._client.get("/1.0/projects")
        return [str(path).partition("?")[0].rpartition("/")[2] for path in paths] if isinstance(paths, list) else []

    def resources(self) -> dict[str, object]:
        """The host's processors, memory, disks and network cards."""
        return cast("dict[str, object]", self._client.get("/1.0/resources"))

    def configure(self, config: Mapping[str, str]) -> None:
        """Set keys of the daemon's configuration; an empty value removes a key."""
        self._client.call("PATCH", "/1.0", {"config": dict(config)})
