"""Tables of the packet filter in memory."""

from __future__ import annotations


class FakeFirewall:
    """Keeps each table's body as it was applied."""

    def __init__(self) -> None:
        self.bodies: dict[str, str] = {}
        """Table -> body."""

    async def apply(self, table: str, body: str) -> None:
        """Replace it."""
        self.bodies[table] = body

    async def delete(self, table: str) -> None:
        """Fine when it is not there."""
        self.bodies.pop(table, None)

    async def tables(self, prefix: str = "") -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(name for name in self.bodies if name.startswith(prefix)))
