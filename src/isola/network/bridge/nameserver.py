"""The dnsmasq of one network: outlives the daemon, is adopted by the next one, started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from isola.errors import CommandFailed, HostFailure, IsolaError, NotFound
from isola.host import Host
from isola.host.cancellation import finish
from isola.host.process import ProcessRef

_GRACE = 2.0
"""Seconds dnsmasq gets to end by itself."""
_GATHER = 0.2
"""Seconds in which several wishes to reload become one."""
_FIRST_DELAY, _LAST_DELAY = 0.1, 30.0
log = logging.getLogger(__name__)


class Nameserver:
    """Runs with the configuration file ``dnsmasq.conf`` in the network's directory, which names it for good."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self._configuration = directory / "dnsmasq.conf"
        self._running: ProcessRef | None = None
        self._watch: asyncio.Task[None] | None = None
        self._reload: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()

    async def ensure(self, configuration: str) -> None:
        """Have it run with this configuration: adopted, started or started anew. Raises HostFailure."""
        async with self._lock:
            running = await self._adopt()
            if await self._content() != configuration:
                # Ended before the file changes: whoever runs has what stands in the file.
                self.leave()
                await self._end(running)
                await self._host.files.write(self._configuration, configuration.encode(), mode=0o644)
                running = None
            if running is None:
                running = await self._start()
            self._keep(running)

    async def stop(self) -> None:
        """End it; fine when it does not run."""
        self.leave()
        async with self._lock:
            await self._end(await self._adopt())

    def leave(self) -> None:
        """Stop looking after it; it runs on."""
        for pending in (self._watch, self._reload):
            if pending is not None:
                pending.cancel()
        self._watch = self._reload = None

    def reload(self) -> None:
        """Have it read the files of NICs anew, soon: those that went or changed are noticed by a signal only."""
        if self._reload is None:
            self._reload = asyncio.get_running_loop().call_later(_GATHER, self._hang_up)

    def hasten(self) -> None:
        """Do now what is due soon: it takes no address for a NIC while it still remembers who had it before."""
        if self._reload is not None:
            self._reload.cancel()
            self._hang_up()

    @property
    def pid(self) -> int | None:
        """Number of the process that was last seen to run."""
        return self._running.pid if self._running else None

    def _hang_up(self) -> None:
        self._reload = None
        if self._running is not None:
            self._host.processes.signal(self._running, signal.SIGHUP)

    def _keep(self, running: ProcessRef) -> None:
        if self._watch is not None and not self._watch.done() and running == self._running:
            return
        if self._watch is not None:
            self._watch.cancel()
        self._running = running
        self._watch = asyncio.get_running_loop().create_task(self._watch_over(), name=f"watch {self._directory.name}")

    async def _watch_over(self) -> None:
        delay = _FIRST_DELAY
        while self._running is not None:
            since = self._host.clock.monotonic()
            await self._host.processes.gone(self._running)
            delay = _FIRST_DELAY if self._host.clock.monotonic() - since > _LAST_DELAY else min(delay * 2, _LAST_DELAY)
            log.warning("dnsmasq of network %s has died and is started again", self._directory.name)
            await self._revive(delay)

    async def _revive(self, delay: float) -> None:
        while True:
            await self._host.clock.sleep(delay)
            try:
                async with self._lock:
                    self._running = await self._adopt() or await self._start()
                return
            except IsolaError as error:
                log.error("Cannot start dnsmasq of network %s: %s", self._directory.name, error)
                delay = min(delay * 2, _LAST_DELAY)

    async def _start(self) -> ProcessRef:
        """It goes to the background by itself once all is well, and says on standard error why it does not.

        Once begun it is waited for: half-way there it is out of our hands and not yet in its file.
        """
        try:
            await finish(self._host.processes.run(self._command()))
        except CommandFailed as error:
            # One that a daemon started in its last moment may have been faster.
            if (running := await self._adopt()) is not None:
                return running
            raise self._failure(error.evidence or error.message) from error
        running = await self._adopt()
        if running is None:
            raise self._failure("it ended at once")
        return running

    def _failure(self, evidence: str) -> HostFailure:
        remedy = "the host's inotify instances are used up: raise the sysctl fs.inotify.max_user_instances"
        return HostFailure(
            f"Cannot start dnsmasq for network {self._directory.name!r}",
            evidence=evidence,
            remedy=remedy if "inotify" in evidence else "",
        )

    async def _adopt(self) -> ProcessRef | None:
        """The process its file names, if it is one of ours and not a later one with the same number."""
        try:
            pid = int(await self._host.files.read(self._directory / "dnsmasq.pid"))
        except (NotFound, ValueError):
            return None
        running = self._host.processes.identify(pid)
        return running if running and self._command()[1] in self._host.processes.command_line(running) else None

    async def _end(self, running: ProcessRef | None) -> None:
        self._running = None
        if running is None:
            return
        for signum in (signal.SIGTERM, signal.SIGKILL):
            self._host.processes.signal(running, signum)
            try:
                async with asyncio.timeout(_GRACE):
                    return await self._host.processes.gone(running)
            except TimeoutError:
                log.warning("dnsmasq of network %s does not end", self._directory.name)

    async def _content(self) -> str | None:
        try:
            return (await self._host.files.read(self._configuration)).decode()
        except NotFound:
            return None

    def _command(self) -> tuple[str, ...]:
        return ("dnsmasq", f"--conf-file={self._configuration}")
