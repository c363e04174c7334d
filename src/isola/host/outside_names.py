"""Names that are resolved to addresses outside of this host; imported with the first request that needs it."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from isola.host.outside import not_outside
from isola.model.outside import is_outside


class OutsideNames(AbstractResolver):
    """What is resolved is what is connected to, so that a name cannot change in between."""

    def __init__(self) -> None:
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises Forbidden if no address is outside, OSError if there is none."""
        found = await self._names.resolve(host, port, family)
        if not (outside := [each for each in found if is_outside(each["host"])]):
            raise not_outside(host)
        return outside

    async def close(self) -> None:
        """End the resolver."""
        await self._names.close()
