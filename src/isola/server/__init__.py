"""The server itself: its configuration and what it says of itself."""

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
"""Bring what runs from one configuration to another, or leave it as it is and raise."""


def _https_address(value: str) -> object:
    return endpoint(value, HTTPS_PORT)


SETTINGS = Settings(
    "server",
    Setting(
        "core.https_address",
        _https_address,
        "Where the API is served over TLS: an address of this host with a port, as in `192.0.2.1:8443`, "
        "`[2001:db8::1]:8443` or, for all addresses, `:8443`. The port is 8443 where none is given; "
        "without this key there is no network port.",
        live=True,
    ),
    Setting(
        "core.remote_token_expiry",
        expiry,
        "How long a token is good by which a client adds its certificate, as in `1d` or `2H 30M`; "
        "without it until it is used or the daemon ends.",
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
        """Asked in turn before a new configuration is recorded; where one refuses, the others are taken back."""
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

    async def update(self, decide: Callable[[Config], Config]) -> None:
        """Set the whole configuration to what ``decide`` makes of the one that stands, and apply it.

        Raises InvalidInput, and what ``decide`` and the appliers raise; then nothing has changed.
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
