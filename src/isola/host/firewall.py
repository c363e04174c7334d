"""Packet filter: one nftables table per owner, replaced atomically."""

from __future__ import annotations

from typing import Protocol


class Firewall(Protocol):
    """Tables of family ``inet`` in the daemon's network namespace."""

    async def apply(self, table: str, body: str) -> None:
        """Replace the whole table by ``body`` (chains and sets in nft syntax) in one transaction."""
        ...

    async def delete(self, table: str) -> None:
        """Delete a table; fine when it is not there."""
        ...

    async def tables(self, prefix: str = "") -> tuple[str, ...]:
        """Names of the tables that start with ``prefix``."""
        ...
