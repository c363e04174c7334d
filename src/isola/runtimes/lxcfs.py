"""lxcfs: shows each instance its own limits in /proc. One per daemon, which outlives it."""

from __future__ import annotations

import logging
from pathlib import Path

from isola.errors import IsolaError
from isola.host import Host
from isola.host.process import ProcessRef

log = logging.getLogger(__name__)
_START_SECONDS = 5.0


class Lxcfs:
    """Started when missing, adopted when it runs; instances start without it where the host has none."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self.mountpoint = directory / "lxcfs"
        self._state = directory / "lxcfs.pid"

    async def ensure(self) -> Path | None:
        """The mount point, or None with a warning in the log."""
        program = self._host.system.find_program("lxcfs")
        if program is None:
            log.warning("lxcfs is not installed: instances see the host's CPUs and memory in /proc")
            return None
        if await self._process() is not None and await self._host.mounts.mounted(self.mountpoint):
            return self.mountpoint
        try:
            await self._start(program)
        except IsolaError as error:
            log.warning("lxcfs does not start, instances see the host's CPUs and memory in /proc: %s", error)
            return None
        return self.mountpoint

    async def stop(self) -> None:
        """End it; only when no instance runs."""
        process = await self._process()
        if process is not None:
            self._host.processes.signal(process, 15)
            await self._host.processes.gone(process)
        await self._host.mounts.unmount(self.mountpoint)
        await self._host.files.remove_tree(self._state)

    async def _start(self, program: Path) -> None:
        host = self._host
        await host.mounts.unmount(self.mountpoint)
        await host.files.make_directory(self.mountpoint)
        await host.processes.spawn([str(program), "-f", "-p", str(self._state), str(self.mountpoint)])
        end = host.clock.monotonic() + _START_SECONDS
        while not await host.mounts.mounted(self.mountpoint):
            if host.clock.monotonic() > end:
                from isola.errors import TimedOut

                raise TimedOut(f"lxcfs did not mount {self.mountpoint} within {_START_SECONDS:g} seconds")
            await host.clock.sleep(0.02)

    async def _process(self) -> ProcessRef | None:
        if not await self._host.files.exists(self._state):
            return None
        text = (await self._host.files.read(self._state)).decode(errors="replace").strip()
        return self._host.processes.identify(int(text)) if text.isdigit() else None
