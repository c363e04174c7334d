"""Helper programs that outlive the daemon: adopted by the next daemon, and restarted when they die."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from isola.errors import HostFailure, IsolaError, NotFound
from isola.host import Host
from isola.host.process import ProcessRef

GRACE = 2.0
"""Seconds that a program has to end after SIGTERM."""
FIRST_DELAY, LAST_DELAY = 0.1, 30.0
"""Seconds before a program is restarted: doubled each time, unless it ran for longer than the last pause."""
TIMEOUT = 20.0
"""Seconds that a program has to report that it works."""
log = logging.getLogger(__name__)


async def start_reporting(host: Host, argv: Sequence[str], *, late: str, pass_fds: Sequence[int] = ()) -> str:
    """Start a program, and return what it has written when it closes its standard output.

    Raises HostFailure with the message ``late`` if that takes too long; then the program is killed.
    """
    report = host.sockets.pipe_from_child()
    child = None
    try:
        child = await host.processes.spawn(
            argv, stdout=report.remote, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, pass_fds=pass_fds
        )
        report.close_remote()
        async with asyncio.timeout(TIMEOUT):
            return (await report.stream.read()).decode(errors="replace").strip()
    except BaseException as error:
        if child is not None:
            child.signal(signal.SIGKILL)
        if isinstance(error, TimeoutError):
            raise HostFailure(late) from None
        raise
    finally:
        report.close_remote()
        report.stream.close()


class Companion:
    """One such program. It is found by its PID file; the process must have ``mark`` in its argv.

    ``start`` starts it and returns once it works and has written its PID file; it raises IsolaError.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        *,
        pid_file: Path,
        mark: str,
        start: Callable[[], Awaitable[object]],
        loss: str = "",
    ) -> None:
        self.name = name
        self._host = host
        self._pid_file = pid_file
        self._mark = mark
        self._start = start
        self._loss = loss
        """The consequence of its death, for the log."""
        self._running: ProcessRef | None = None
        self._watch: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @property
    def running(self) -> ProcessRef | None:
        """The process that was running last."""
        return self._running

    async def find(self) -> ProcessRef | None:
        """The process in the PID file, if it is this program and not another one with a reused PID."""
        try:
            text = (await self._host.files.read(self._pid_file)).decode(errors="replace").strip()
        except NotFound:
            return None
        found = self._host.processes.identify(int(text)) if text.isdecimal() else None
        return found if found and self._mark in self._host.processes.command_line(found) else None

    async def ensure(
        self,
        *,
        fits: Callable[[], Awaitable[bool]] | None = None,
        prepare: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Adopt it, or start it after ``prepare``, and supervise it. Raises the errors of ``prepare``.

        If it runs with other arguments it is ended first, so that the last preparation is the one in effect.
        """
        async with self._lock:
            running = await self.find()
            if fits is not None and not await fits():
                self.leave()
                await self._end(running)
                running = None
                if prepare is not None:
                    await prepare()
            if running is None:
                running = await self._begin()
            self._keep(running)

    async def stop(self) -> None:
        """Stop it; no effect if it does not run."""
        self.leave()
        async with self._lock:
            await self._end(await self.find())

    def leave(self) -> None:
        """Stop supervising it; it keeps running."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def signal(self, signum: int) -> None:
        """Send it a signal; no effect if it does not run."""
        if self._running is not None:
            self._host.processes.signal(self._running, signum)

    def _keep(self, running: ProcessRef) -> None:
        if self._watch is not None and not self._watch.done() and running == self._running:
            return
        self.leave()
        self._running = running
        self._watch = asyncio.get_running_loop().create_task(self._watch_over(), name=f"watch {self.name}")

    async def _watch_over(self) -> None:
        delay = FIRST_DELAY
        while self._running is not None:
            since = self._host.clock.monotonic()
            await self._host.processes.gone(self._running)
            delay = FIRST_DELAY if self._host.clock.monotonic() - since > LAST_DELAY else min(delay * 2, LAST_DELAY)
            log.warning("%s has died and is started again%s", self.name, self._loss)
            await self._revive(delay)

    async def _revive(self, delay: float) -> None:
        while True:
            await self._host.clock.sleep(delay)
            try:
                async with self._lock:
                    self._running = await self.find() or await self._begin()
                return
            except IsolaError as error:
                log.error("%s cannot be started: %s", self.name, error)
                delay = min(delay * 2, LAST_DELAY)

    async def _begin(self) -> ProcessRef:
        await self._start()
        running = await self.find()
        if running is None:
            raise HostFailure(f"{self.name} ended at once")
        return running

    async def _end(self, running: ProcessRef | None) -> None:
        self._running = None
        if running is None:
            return
        for signum in (signal.SIGTERM, signal.SIGKILL):
            self._host.processes.signal(running, signum)
            try:
                async with asyncio.timeout(GRACE):
                    return await self._host.processes.gone(running)
            except TimeoutError:
                log.warning("%s does not end", self.name)
