"""Control groups: one path per instance, on a unified or a hybrid hierarchy alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isola.model.limits import Limits, Usage


class Cgroups(Protocol):
    """``path`` is below every hierarchy's root, e.g. ``/isola/3f2a``. Reads are quick and never block."""

    @property
    def layout(self) -> str:
        """``unified``, ``hybrid`` or ``legacy``."""
        ...

    async def create(self, path: str, *, owner: int | None = None) -> None:
        """Make the group in every hierarchy (and its parents); with ``owner`` delegate the v2 one to that host id."""
        ...

    async def exists(self, path: str) -> bool:
        """Whether the group is there in any hierarchy."""
        ...

    async def enter(self, path: str, pid: int) -> None:
        """Put a process into the group, in every hierarchy in which it is not there already."""
        ...

    async def limit(self, path: str, limits: Limits) -> None:
        """Set all limits, None meaning none. Raises HostFailure naming the limit, e.g. memory below what is in use."""
        ...

    def usage(self, path: str) -> Usage:
        """What the group uses now; zeros when it is gone."""
        ...

    def processes(self, path: str) -> Sequence[int]:
        """Numbers of all processes in the group and below."""
        ...

    async def kill(self, path: str) -> None:
        """Kill every process in the group and below, and return once they are gone."""
        ...

    async def remove(self, path: str) -> None:
        """Remove the group and those below it in every hierarchy; fine when it is not there."""
        ...

    async def children(self, path: str) -> tuple[str, ...]:
        """Names of the groups directly below ``path`` in any hierarchy."""
        ...
