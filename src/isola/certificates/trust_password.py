"""The password with which clients of LXD 5.0 add their certificates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from isola.certificates.attempts import Attempts
from isola.errors import Forbidden
from isola.host.clock import Clock
from isola.host.threads import in_thread
from isola.passwords import matches

_WAITING = 16
_LONGEST = 1024
log = logging.getLogger("isola.access")


class TrustPassword:
    """Checks it for untrusted clients: one at a time, since each check needs memory, and with a rate limit.

    ``stored`` returns its hash; empty if none is set.
    """

    def __init__(self, stored: Callable[[], str], attempts: Attempts, clock: Clock) -> None:
        self._stored = stored
        self._attempts = attempts
        self._clock = clock
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def is_set(self) -> bool:
        return bool(self._stored())

    async def check(self, password: str, address: str) -> None:
        """Raises Forbidden if it is wrong, or was tried too often."""
        if self._waiting >= _WAITING:
            raise Forbidden("Too many clients try passwords", remedy="try again in a minute")
        self._waiting += 1
        try:
            async with self._turn:
                await self._check(password, address)
        finally:
            self._waiting -= 1

    async def _check(self, password: str, address: str) -> None:
        self._attempts.require_free(address, self._clock.monotonic(), "passwords")
        stored = self._stored()
        if len(password) > _LONGEST or not stored or not await in_thread(lambda: matches(stored, password)):
            self._attempts.failed(address, self._clock.monotonic())
            raise Forbidden("The password is wrong", remedy="ask the administrator of the server for a token")
        self._attempts.succeeded(address)
        log.warning("A client at %s is trusted by the trust password", address or "an unknown address")
