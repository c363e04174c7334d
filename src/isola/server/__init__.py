"""The server itself: its configuration and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping

from isola.errors import PreconditionFailed
from isola.settings import Setting, Settings, text, whole
from isola.state import Collection

SETTINGS = Settings(
    "server",
    Setting("core.shutdown_timeout", whole(0, 3600), "Accepted from clients of LXD; has no effect.", "5"),
    Setting("images.default_architecture", text, "Accepted from clients of LXD; has no effect."),
    Setting("user.*", text, "Free for the user."),
)


class Server:
    """Server configuration: one record."""

    def __init__(self, records: Collection[Mapping[str, str]]) -> None:
        self._records = records

    @property
    def config(self) -> Mapping[str, str]:
        """The keys that were set."""
        return self._records.find("config") or {}

    @property
    def revision(self) -> int:
        """Changes with every write."""
        return self._records.revision("config")

    async def replace(self, config: Mapping[str, str], *, revision: int | None = None) -> None:
        """Set the whole configuration. Raises InvalidInput; PreconditionFailed when ``revision`` is out of date."""
        SETTINGS.validate(config)
        if revision is not None and revision != self.revision:
            raise PreconditionFailed("The server's configuration has changed meanwhile", remedy="read it again")
        await self._records.put("config", {key: value for key, value in config.items() if value})
