"""lxcfs: shows each instance its own limits in /proc. One per daemon, which outlives it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from isola.errors import IsolaError, NotFound, TimedOut
from isola.host import Host
from isola.host.process import ProcessRef

log = logging.getLogger(__name__)
_START_SECONDS = 5.0
_FIRST_DELAY, _LAST_DELAY = 0.1, 30.0
"""Seconds before one that died is started again; ever longer while it keeps dying."""


class Lxcfs:
    """Started when missing, adopted when it runs; instances start without it where the host has none.

    One that dies is started again for the instances that start later; those that run keep the dead one's files, which
    answer with an error until they are started anew.
    """

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self.mountpoint = directory / "lxcfs"
        self._state = directory / "lxcfs.pid"
        self._watch: asyncio.Task[None] | None = None

    async def ensure(self) -> Path | None:
        """The mount point, or None with a warning in the log."""
        program = self._host.system.find_program("lxcfs")
        if program is None:
            log.warning("lxcfs is not installed: instances see the host's CPUs and memory in /proc")
            return None
        if await self._process() is None or not await self._host.mounts.mounted(self.mountpoint):
            try:
                await self._start(program)
            except IsolaError as error:
                log.warning("lxcfs does not start, instances see the host's CPUs and memory in /proc: %s", error)
                return None
        self._watch = asyncio.get_running_loop().create_task(self._watch_over(program), name="watch lxcfs")
        return self.mountpoint

    def leave(self) -> None:
        """Stop looking after it; it runs on."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def stop(self) -> None:
        """End it; only when no instance runs."""
        self.leave()
        process = await self._process()
        if process is not None:
            self._host.processes.signal(process, 15)
            await self._host.processes.gone(process)
        await self._host.mounts.unmount(self.mountpoint)
        await self._host.files.remove_tree(self._state)

    async def _watch_over(self, program: Path) -> None:
        delay = _FIRST_DELAY
        while True:
            since = self._host.clock.monotonic()
            if (process := await self._process()) is not None:
                await self._host.processes.gone(process)
            delay = _FIRST_DELAY if self._host.clock.monotonic() - since > _LAST_DELAY else min(delay * 2, _LAST_DELAY)
            log.warning("lxcfs has died and is started again; instances that run see errors in /proc")
            await self._host.clock.sleep(delay)
            try:
                await self._start(program)
            except IsolaError as error:
                log.error("Cannot start lxcfs: %s", error)

    async def _start(self, program: Path) -> None:
        host = self._host
        await host.mounts.unmount(self.mountpoint)
        await host.files.make_directory(self.mountpoint)
        await host.processes.spawn([str(program), "-f", "-p", str(self._state), str(self.mountpoint)], env={})
        end = host.clock.monotonic() + _START_SECONDS
        while not await host.mounts.mounted(self.mountpoint):
            if host.clock.monotonic() > end:
                raise TimedOut(f"lxcfs did not mount {self.mountpoint} within {_START_SECONDS:g} seconds")
            await host.clock.sleep(0.02)

    async def _process(self) -> ProcessRef | None:
        """The process its file names, if it is our lxcfs and not a later one with the same number."""
        try:
            text = (await self._host.files.read(self._state)).decode(errors="replace").strip()
        except NotFound:
            return None
        found = self._host.processes.identify(int(text)) if text.isdigit() else None
        return found if found and str(self.mountpoint) in self._host.processes.command_line(found) else None


async def answering(host: Host, mountpoint: Path | None) -> Path | None:
    """The mount point if it can be used now; one whose lxcfs hangs or has died would keep an instance from starting."""
    if mountpoint is None or await host.mounts.responds(mountpoint):
        return mountpoint
    log.warning("lxcfs does not answer: an instance starts without it and sees the host's CPUs and memory in /proc")
    return None
