"""How many connections each owner of ports may have, so that one cannot take the room of all others. Pure."""

from __future__ import annotations

MOST = 4096
"""Connections of one owner; further clients wait in the kernel's backlog."""


class Shares:
    """Half of the room is reserved, in equal shares; the other half is for who comes first."""

    __slots__ = ("_counts", "_room", "owners", "total")

    def __init__(self, room: int) -> None:
        self._room = room
        self._counts: dict[str, int] = {}
        self.owners = 1
        """How many there are."""
        self.total = 0

    def admits(self, owner: str) -> bool:
        """Whether it may have one more connection."""
        count = self._counts.get(owner, 0)
        if count >= MOST:
            return False
        half = self._room // 2
        if self.total < half:
            return True
        share = max(1, half // max(1, self.owners))
        return count < share or sum(each - share for each in self._counts.values() if each > share) < half

    def take(self, owner: str) -> None:
        """Count one more connection, whether it is admitted or not."""
        self._counts[owner] = self._counts.get(owner, 0) + 1
        self.total += 1

    def release(self, owner: str) -> None:
        """Count one less; it must have been taken."""
        self.total -= 1
        left = self._counts[owner] - 1
        if left:
            self._counts[owner] = left
        else:
            del self._counts[owner]
