"""The mount namespace in which an engine sees cgroup v2 alone on hosts that have both versions.

It runs among few mounts (see host/small_world.py). A first process is made in a copy of them in which there are also
its own root and whatever else it is given: the copy ends with its monitor. A command needs nothing more than is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from isola.host import Host
from isola.host.process import Place
from isola.host.small_world import cgroups_in, shelf_in
from isola.runtimes.driver import RUNS

_CGROUPS = "/sys/fs/cgroup"


class SmallWorld:
    """The namespace with few mounts: created when first needed, and removed with the daemon."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self._lock = asyncio.Lock()
        self._held: Path | None = None

    async def place(self) -> Place:
        """In it. Raises HostFailure."""
        return Place(mounts=await self._file())

    async def copy(self, shelved: Sequence[Path]) -> Place:
        """In a copy that has these besides. Raises HostFailure."""
        return Place(mounts=await self._file(), shelf=shelf_in(self._directory), shelved=shelved)

    def groups(self, directories: Sequence[Path]) -> tuple[Path, ...]:
        """Where directories of control groups are in it."""
        top = cgroups_in(self._directory)
        return tuple(top / each.relative_to(_CGROUPS) for each in directories)

    async def _file(self) -> Path:
        async with self._lock:
            if self._held is None:
                unified = self._host.cgroups.unified
                assert unified is not None
                inside = [self._directory / RUNS]
                self._held = await self._host.namespaces.small_mounts(self._directory, unified, inside)
            return self._held
