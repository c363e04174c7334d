"""The dnsmasq of one network: outlives the daemon, is adopted by the next one, started again when it dies."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from isola.errors import CommandFailed, HostFailure, NotFound
from isola.host import Host
from isola.host.cancellation import finish
from isola.host.companion import Companion

_GATHER = 0.2
"""Seconds in which several requests to reload become one."""
_ENDING = 2.0
"""Seconds that one has to end after it has reported that it cannot start."""


class Nameserver:
    """Runs with the configuration file ``dnsmasq.conf`` in the network's directory, which names it for good."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self._configuration = directory / "dnsmasq.conf"
        self._companion = Companion(
            host,
            f"dnsmasq of network {directory.name}",
            pid_file=directory / "dnsmasq.pid",
            mark=self._command()[1],
            start=self._start,
        )
        self._reload: asyncio.TimerHandle | None = None

    async def ensure(self, configuration: str) -> None:
        """Make it run with this configuration: adopt, start or restart it. Raises HostFailure."""

        async def fits() -> bool:
            return await self._content() == configuration

        async def prepare() -> None:
            await self._host.files.write(self._configuration, configuration.encode(), mode=0o644)

        await self._companion.ensure(fits=fits, prepare=prepare)

    async def stop(self) -> None:
        """End it; no effect if it does not run."""
        self.leave()
        await self._companion.stop()

    def leave(self) -> None:
        """Stop supervising it; it keeps running."""
        self._companion.leave()
        if self._reload is not None:
            self._reload.cancel()
            self._reload = None

    def reload(self) -> None:
        """Make it read the files of NICs again, soon: it notices removed and changed ones only after a signal."""
        if self._reload is None:
            self._reload = asyncio.get_running_loop().call_later(_GATHER, self._hang_up)

    def hasten(self) -> None:
        """Reload now instead of soon: dnsmasq gives a NIC no address while it remembers its previous holder."""
        if self._reload is not None:
            self._reload.cancel()
            self._hang_up()

    @property
    def pid(self) -> int | None:
        """Number of the process that was last seen to run."""
        return self._companion.running.pid if self._companion.running else None

    def _hang_up(self) -> None:
        self._reload = None
        self._companion.signal(signal.SIGHUP)

    async def _start(self) -> None:
        """It goes to the background by itself once all is well, and says on standard error why it does not.

        Once begun it is waited for, because a release that was sent may not be in its file yet.
        """
        try:
            await finish(self._host.processes.run(self._command()))
        except CommandFailed as error:
            # One that a daemon started in its last moment may have been faster.
            if not await self._another():
                raise self._failure(error.evidence or error.message) from error

    async def _another(self) -> bool:
        """Whether one runs and stays: the failed one has written its PID too, and ends after it has reported why."""
        found = await self._companion.find()
        if found is None:
            return False
        try:
            async with asyncio.timeout(_ENDING):
                await self._host.processes.gone(found)
        except TimeoutError:
            return True
        return False

    def _failure(self, evidence: str) -> HostFailure:
        remedy = "the host's inotify instances are used up: raise the sysctl fs.inotify.max_user_instances"
        return HostFailure(
            f"Cannot start dnsmasq for network {self._directory.name!r}",
            evidence=evidence,
            remedy=remedy if "inotify" in evidence else "",
        )

    async def _content(self) -> str | None:
        try:
            return (await self._host.files.read(self._configuration)).decode()
        except NotFound:
            return None

    def _command(self) -> tuple[str, ...]:
        return ("dnsmasq", f"--conf-file={self._configuration}")
