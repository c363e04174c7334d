"""lxcfs: makes each instance see its own limits in /proc. One per daemon, which keeps running when that ends."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path

from isola.errors import IsolaError, NotFound, TimedOut
from isola.host import Host
from isola.host.companion import Companion

log = logging.getLogger(__name__)
_START_SECONDS = 5.0


class Lxcfs:
    """Started if it does not run, otherwise adopted; instances start without it if it is not installed.

    If it dies, it is restarted for instances that start later; running instances get errors from the files of the
    old one until they are restarted.
    """

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self.mountpoint = directory / "lxcfs"
        self._state = _pid_file(self.mountpoint)
        self._companion = Companion(
            host,
            "lxcfs",
            pid_file=self._state,
            mark=str(self.mountpoint),
            start=self._start,
            loss="; instances that run see errors in /proc",
        )

    async def ensure(self) -> Path | None:
        """The mount point, or None with a warning in the log."""
        if self._host.system.find_program("lxcfs") is None:
            log.warning("lxcfs is not installed: instances see the host's CPUs and memory in /proc")
            return None
        try:
            await self._companion.ensure(fits=lambda: self._host.mounts.mounted(self.mountpoint))
        except IsolaError as error:
            log.warning("lxcfs does not start, instances see the host's CPUs and memory in /proc: %s", error)
            return None
        return self.mountpoint

    def leave(self) -> None:
        """Stop supervising it; it keeps running."""
        self._companion.leave()

    async def stop(self) -> None:
        """Stop it; only if no instance runs."""
        await self._companion.stop()
        await self._host.mounts.unmount(self.mountpoint)
        await self._host.files.remove_tree(self._state)

    async def _start(self) -> None:
        host = self._host
        program = host.system.find_program("lxcfs") or "lxcfs"
        await host.mounts.unmount(self.mountpoint)
        await host.files.make_directory(self.mountpoint)
        # Otherwise every user of the host writes to /sys/devices/system/cpu through it: lxcfs does so as root, and asks
        # for no permissions of the caller.
        argv = [str(program), "-f", "-o", "default_permissions", "-p", str(self._state), str(self.mountpoint)]
        await host.processes.spawn(argv, env={})
        end = host.clock.monotonic() + _START_SECONDS
        while not await host.mounts.mounted(self.mountpoint):
            if host.clock.monotonic() > end:
                raise TimedOut(f"lxcfs did not mount {self.mountpoint} within {_START_SECONDS:g} seconds")
            await host.clock.sleep(0.02)


async def answering(host: Host, mountpoint: Path | None) -> Path | None:
    """The mount point if it is mounted and responds; None if it has died, or hangs and would block a start."""
    if mountpoint is None or await host.mounts.responds(mountpoint):
        return mountpoint
    log.warning("lxcfs does not answer: an instance starts without it and sees the host's CPUs and memory in /proc")
    return None


async def lost(host: Host, mountpoint: Path | None, *, since: datetime) -> bool:
    """Whether it has died since then, also if it has been started again: mounts from it may have failed."""
    if mountpoint is None:
        return False
    if not await host.mounts.responds(mountpoint):
        return True
    try:
        return await host.files.modified(_pid_file(mountpoint)) > since - timedelta(seconds=_START_SECONDS)
    except NotFound:
        return False


def _pid_file(mountpoint: Path) -> Path:
    return mountpoint.with_name(f"{mountpoint.name}.pid")
