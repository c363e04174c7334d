"""The configuration of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from isola.model.endpoint import endpoint
from isola.model.expiry import expiry
from isola.settings import Setting, Settings, text, whole
from isola.state import Collection

HTTPS_PORT = 8443
Config = Mapping[str, str]
Apply = Callable[[Config, Config], Awaitable[None]]
"""Apply a change from the first to the second configuration, or raise without having changed anything."""


def _https_address(value: str) -> object:
    return endpoint(value, HTTPS_PORT)


SETTINGS = Settings(
    "server",
    Setting(
        "core.https_address",
        _https_address,
        "Address and port on which the API is served over TLS, as in `192.0.2.1:8443`, "
        "`[2001:db8::1]:8443` or, for all addresses, `:8443`. The default port is 8443; "
        "without this key there is no network port.",
        live=True,
    ),
    Setting(
        "core.remote_token_expiry",
        expiry,
        "Lifetime of tokens with which clients add their certificates, as in `1d` or `2H 30M`; "
        "by default they are valid until they are used or the daemon ends.",
        live=True,
    ),
    Setting("core.shutdown_timeout", whole(0, 3600), "Accepted from clients of LXD; has no effect.", "5"),
    Setting("images.default_architecture", text, "Accepted from clients of LXD; has no effect."),
    Setting("user.*", text, "User-defined, not interpreted."),
)


class Server:
    """Server configuration: one record."""

    def __init__(self, records: Collection[Mapping[str, str]], copy: Callable[[], Awaitable[bytes]]) -> None:
        self._records = records
        self._turn = asyncio.Lock()
        self.appliers: list[Apply] = []
        """Called in turn before a new configuration is recorded; if one raises, the others are reverted."""
        self.copy_state = copy
        """Returns a consistent copy of the database, which ``isolad --recover`` can restore."""

    @property
    def config(self) -> Mapping[str, str]:
        """The keys that are set."""
        return self._records.find("config") or {}

    @property
    def revision(self) -> int:
        """Changes with every write."""
        return self._records.revision("config")

    async def update(self, decide: Callable[[Config], Config]) -> None:
        """Replace the whole configuration by the result of ``decide`` for the current one, and apply it.

        Raises InvalidInput, and the errors of ``decide`` and the appliers; then nothing has changed.
        """
        async with self._turn:
            before, at = self.config, self.revision
            wanted = {key: value for key, value in decide(before).items() if value}
            SETTINGS.validate(wanted)
            if wanted == before and at:
                return
            async with AsyncExitStack() as undo:
                for apply in self.appliers:
                    await apply(before, wanted)
                    undo.push_async_callback(apply, wanted, before)
                await self._records.put("config", wanted, at=at)
                undo.pop_all()
