"""Names for an instance on several networks: a name server of its own, which knows those of all of them.

Its queries to any of the networks' gateways are redirected to it. It only reads what the networks' own name servers
read, and outlives the daemon as they do.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isola.errors import IsolaError, NotFound
from isola.host import Host
from isola.model.identity import HostNames
from isola.network.bridge.nameserver import Nameserver

_ATTEMPTS = 3
_PORT = re.compile(r"^port=([0-9]{1,5})$", re.MULTILINE)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the networks, as the instance is on it."""

    network: str
    link: str
    addresses: tuple[str, ...]
    """The instance's own."""
    names: Path
    """Directory of the network's names."""
    domain: str
    forward: bool
    user: str | None
    """Who can read the names."""


class SharedNames:
    """Name servers of instances, by id; ``directory`` has one directory for each."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        self._host = host
        self._directory = directory
        self._names = names
        self._running: dict[str, tuple[Nameserver, tuple[Side, ...]]] = {}
        self._turn = asyncio.Lock()

    async def ensure(self, id: str, sides: Sequence[Side]) -> None:
        """Make it run, and redirect to it. Without it the instance knows the names of one network only."""
        async with self._turn:
            home = self._directory / id
            server, known = self._running.get(id) or (Nameserver(self._host, home), ())
            if known == tuple(sides):
                return
            self._running[id] = server, tuple(sides)
            try:
                await self._host.files.make_directory(home, mode=0o755)
                port = await self._start(server, home, sides)
                await self._host.firewall.apply(self._table(id), redirection(sides, port))
            except IsolaError as error:
                log.warning("Instance %s knows the names of one network only: %s", id, error)

    async def end(self, id: str) -> None:
        """No effect if there is none."""
        async with self._turn:
            home = self._directory / id
            if id not in self._running and not await self._host.files.exists(home):
                return
            await self._host.firewall.delete(self._table(id))
            known = self._running.pop(id, None)
            await (known[0] if known is not None else Nameserver(self._host, home)).stop()
            await self._host.files.remove_tree(home)

    def reload(self, network: str) -> None:
        """Names of a network were changed or removed."""
        for server, sides in self._running.values():
            if network in {side.network for side in sides}:
                server.reload()

    def leave(self) -> None:
        """Stop supervising; the processes keep running."""
        for server, _ in self._running.values():
            server.leave()
        self._running.clear()

    async def _start(self, server: Nameserver, home: Path, sides: Sequence[Side]) -> int:
        """The port on which it answers: the one it has, or a free one."""
        found = _PORT.search(await self._text(home / "dnsmasq.conf"))
        port = int(found[1]) if found else 0
        for attempt in range(_ATTEMPTS):
            port = port or self._host.sockets.free_port("0.0.0.0", udp=True)
            try:
                await server.ensure(configuration(sides, port, home))
            except IsolaError:
                if attempt == _ATTEMPTS - 1:
                    raise
                port = 0  # another program may have taken it
            else:
                break
        return port

    async def _text(self, path: Path) -> str:
        try:
            return (await self._host.files.read(path)).decode(errors="replace")
        except NotFound:
            return ""

    def _table(self, id: str) -> str:
        return self._names.device_table(id, "")


def configuration(sides: Sequence[Side], port: int, home: Path) -> str:
    """For dnsmasq: names only. Pure."""
    user = sides[0].user
    lines = [
        "# Written by Isola: what is changed here is lost.",
        *([f"user={user}", "group=nogroup"] if user else ["user=root"]),
        f"pid-file={home}/dnsmasq.pid",
        f"port={port}",
        *(f"interface={side.link}" for side in sides),
        "except-interface=lo",
        "bind-dynamic",
        "no-hosts",
        *(f"local=/{domain}/" for domain in dict.fromkeys(side.domain for side in sides)),
        *(f"hostsdir={side.names}" for side in sides),
        *([] if any(side.forward for side in sides) else ["no-resolv"]),
    ]
    return "\n".join(lines) + "\n"


def redirection(sides: Sequence[Side], port: int) -> str:
    """The table that sends the instance's queries to it. Pure."""
    rules = [
        f'  iifname "{side.link}" {"ip6" if ":" in address else "ip"} saddr {address} fib daddr type local'
        f" meta l4proto {{ tcp, udp }} th dport 53 redirect to :{port}"
        for side in sides
        for address in side.addresses
    ]
    return "\n".join(("chain names {", "  type nat hook prerouting priority dstnat; policy accept;", *rules, "}"))
