"""Firewall tables in memory."""

from __future__ import annotations


class FakeFirewall:
    """Stores the body of each table as it was applied."""

    def __init__(self) -> None:
        self.bodies: dict[str, str] = {}
        """Table -> body, of family ``inet``."""
        self.bridges: dict[str, str] = {}
        """Table -> body, of family ``bridge``."""
        self.others: dict[str, dict[str, str]] = {"ip": {}, "ip6": {}}
        """Family -> table -> body."""

    async def apply(self, table: str, body: str, family: str = "inet") -> None:
        """Replace it."""
        self._of(family)[table] = body

    async def delete(self, table: str, family: str = "inet") -> None:
        """No effect if it does not exist."""
        self._of(family).pop(table, None)

    async def tables(self, prefix: str = "", family: str = "inet") -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(name for name in self._of(family) if name.startswith(prefix)))

    def _of(self, family: str) -> dict[str, str]:
        return {"inet": self.bodies, "bridge": self.bridges, **self.others}[family]
