"""The one process that forwards published ports of all instances; it keeps running when the daemon ends."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from isola.errors import HostFailure, IsolaError, NotFound
from isola.host import Host
from isola.host.companion import Companion, start_reporting
from isola.host.published.message import VERSION, Address, Endpoint, Request, read_listen

MODULE = "isola.host.published.program"
_PROGRAM = f"from {MODULE} import main; main()"
_TIMEOUT = 20.0
log = logging.getLogger(__name__)
Ports = Mapping[Endpoint, Address]
"""Where it listens -> where it connects to."""


class PortForwarder:
    """Ports have an owner: instance id and device. The process runs as long as it has any."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self.directory = directory
        """Of its socket and its PID file."""
        self._socket = directory / "control"
        self._wanted: dict[str, Ports] = {}
        """What is sent to a new process first."""
        self._lock = asyncio.Lock()
        self._companion = Companion(
            host,
            "The process that forwards published ports",
            pid_file=directory / "pid",
            mark=str(self._socket),
            start=self._start,
            loss="; connections to published ports from this host have ended",
        )

    async def publish(self, owner: str, ports: Ports, *, take: bool = False) -> None:
        """Listen on these instead of the owner's present ports; with ``take`` other owners lose them.

        Raises HostFailure, after which everything is as before.
        """
        await self._change({owner: ports}, yields=[owner], take=take)

    async def hand_over(self, come: Mapping[str, Ports], gone: Iterable[str]) -> None:
        """Ports of ``gone`` lead to the targets of ``come`` from now on; connections to the former ones continue.

        Raises HostFailure, after which everything is as before.
        """
        await self._change(come, yields=[*gone, *come])

    async def drop(self, *owners: str) -> None:
        """Stop listening, and end all connections."""
        request = Request()
        request.drop.update(owners)
        async with self._lock:
            for owner in owners:
                self._wanted.pop(owner, None)
            needed = any(self._wanted.values())
            if not needed:
                self._companion.leave()  # it ends by itself when its last connection has ended
            if await self._companion.find() is None:
                return
            try:
                _, listeners, connections = (await self._ask(request)).splitlines()[-1].split("\t")
            except NotFound:  # it died at this moment
                return
            if (listeners, connections) == ("0", "0") and not needed:
                await self._companion.stop()

    async def listening(self) -> dict[Endpoint, tuple[str, Address]]:
        """Owner and target of each port; empty if the process does not run."""
        request = Request()
        request.listing = True
        async with self._lock:
            if await self._companion.find() is None:
                return {}
            try:
                lines = (await self._ask(request)).splitlines()[:-1]
            except NotFound:  # it died at this moment
                return {}
        return {endpoint: (owner, target) for owner, endpoint, target in map(read_listen, lines)}

    def leave(self) -> None:
        """Stop supervising; the process keeps running."""
        self._companion.leave()

    async def _change(self, come: Mapping[str, Ports], *, yields: Iterable[str], take: bool = False) -> None:
        request = Request()
        request.yields, request.take = set(yields), take
        request.listen = [(owner, *each) for owner, ports in come.items() for each in ports.items()]
        async with self._lock:
            await self._ensure()
            try:
                await self._ask(request)
            except NotFound:  # it died at this moment
                await self._ensure()
                await self._ask(request)
            for owner in request.yields:
                self._wanted.pop(owner, None)
            if take:
                moved = {endpoint for _, endpoint, _ in request.listen}
                for owner, ports in list(self._wanted.items()):
                    self._wanted[owner] = {key: value for key, value in ports.items() if key not in moved}
            self._wanted.update(come)

    async def _ensure(self) -> None:
        await self._host.files.make_directory(self.directory.parent, self.directory, mode=0o700)
        await self._companion.ensure(fits=self._fits)

    async def _fits(self) -> bool:
        """Whether it understands this daemon: an update may have changed the protocol."""
        running = await self._companion.find()
        return running is None or self._host.processes.command_line(running)[-1:] == (VERSION,)

    async def _start(self) -> None:
        argv = [sys.executable, "-I", "-c", _PROGRAM, str(self._socket), str(self.directory / "pid"), VERSION]
        report = await start_reporting(self._host, argv, late="The process for published ports did not start in time")
        if report != "ready":
            raise HostFailure("Ports cannot be published", evidence=report.removeprefix("error: ") or "it died")
        for owner, ports in self._wanted.items():
            await self._restore(owner, ports)

    async def _restore(self, owner: str, ports: Ports) -> None:
        request = Request()
        request.listen = [(owner, *each) for each in ports.items()]
        try:
            await self._ask(request)
        except IsolaError as error:
            log.error("Published ports of %s are not forwarded: %s", owner, error.evidence or error)

    async def _ask(self, request: Request) -> str:
        """The answer. Raises NotFound if the process has died, HostFailure."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                connection = await self._host.sockets.connect_packets(self._socket)
                try:
                    await connection.write(request.text().encode())
                    report = b""
                    while block := await connection.read():
                        report += block
                finally:
                    connection.close()
        except TimeoutError:
            raise HostFailure("The process that forwards published ports does not answer") from None
        text = report.decode(errors="replace")
        if not text:
            raise NotFound("The process that forwards published ports has died")
        keyword, _, rest = text.splitlines()[-1].partition("\t")
        if keyword != "ok":
            raise HostFailure("Ports cannot be published", evidence=rest)
        return text
