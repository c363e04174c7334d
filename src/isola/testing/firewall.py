"""Firewall tables in memory."""

from __future__ import annotations

from collections.abc import Collection


class FakeFirewall:
    """Stores the body of each table as it was applied."""

    def __init__(self) -> None:
        self.bodies: dict[str, str] = {}
        """Table -> body, of family ``inet``."""
        self.bridges: dict[str, str] = {}
        """Table -> body, of family ``bridge``."""
        self.others: dict[str, dict[str, str]] = {"ip": {}, "ip6": {}}
        """Family -> table -> body."""
        self.forgotten: list[tuple[str, frozenset[int]]] = []
        """Targets of datagrams."""

    async def apply(self, table: str, body: str, family: str = "inet") -> None:
        """Replace it."""
        self._of(family)[table] = body

    async def delete(self, table: str, family: str = "inet") -> None:
        """No effect if it does not exist."""
        self._of(family).pop(table, None)

    async def tables(self, prefix: str = "", family: str = "inet") -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(name for name in self._of(family) if name.startswith(prefix)))

    async def forget_datagrams(self, address: str, ports: Collection[int]) -> None:
        """Kept in ``forgotten``."""
        self.forgotten.append((address, frozenset(ports)))

    def _of(self, family: str) -> dict[str, str]:
        return {"inet": self.bodies, "bridge": self.bridges, **self.others}[family]
