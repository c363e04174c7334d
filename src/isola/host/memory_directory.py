"""Directories of the daemon in memory."""

from __future__ import annotations

import logging
from pathlib import Path

from isola.errors import HostFailure
from isola.host import Host
from isola.host.mounts import MemoryMount

log = logging.getLogger(__name__)


class MemoryDirectory:
    """For small files that are of no use after a boot: creating and deleting many of them on disk is slow."""

    def __init__(self, host: Host, place: Path, mode: int) -> None:
        self._host = host
        self._place = place
        self._mode = mode

    async def open(self) -> None:
        """Mount it, unless it is mounted or has files that an older daemon left on disk."""
        files = self._host.files
        await files.make_directory(self._place, mode=self._mode)
        if await files.names(self._place) or await self._host.mounts.mounted(self._place):
            return
        try:
            await self._host.mounts.memory(MemoryMount(self._place, self._mode))
        except HostFailure as error:
            log.warning("The files in %s are kept on disk: %s", self._place, error)

    async def close(self) -> None:
        """Unmount it if it is empty."""
        if not await self._host.files.names(self._place):
            await self.discard()

    async def discard(self) -> None:
        """Unmount it, whatever it contains; what others have mounted there stays."""
        await self._host.mounts.unmount_memory(self._place)
