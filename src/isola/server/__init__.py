"""The server itself: its configuration and what it says of itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

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

    def __init__(self, records: Collection[Mapping[str, str]], copy: Callable[[], Awaitable[bytes]]) -> None:
        self._records = records
        self.copy_state = copy
        """The whole state as it is now, in a form that ``isolad --recover`` puts back."""

    @property
    def config(self) -> Mapping[str, str]:
        """The keys that were set."""
        return self._records.find("config") or {}

    @property
    def revision(self) -> int:
        """Changes with every write."""
        return self._records.revision("config")

    async def update(self, decide: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        """Set the whole configuration to what ``decide`` makes of the one that stands. Raises InvalidInput."""

        def checked(config: Mapping[str, str]) -> Mapping[str, str]:
            wanted = {key: value for key, value in decide(config).items() if value}
            SETTINGS.validate(wanted)
            return wanted

        await self._records.change("config", checked, otherwise={})
