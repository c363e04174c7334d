"""Packet filter: one nftables table per owner, replaced atomically."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection
from typing import Protocol

import orjson

from isola.host import conntrack
from isola.host.process import Processes
from isola.host.threads import in_thread

log = logging.getLogger(__name__)


class Firewall(Protocol):
    """Tables in the daemon's network namespace, of a ``family`` of nftables: inet, ip, ip6 or bridge."""

    async def apply(self, table: str, body: str, family: str = "inet") -> None:
        """Replace the whole table by ``body`` (chains and sets in nft syntax) in one transaction."""
        ...

    async def delete(self, table: str, family: str = "inet") -> None:
        """Delete a table; no effect if it is missing."""
        ...

    async def tables(self, prefix: str = "", family: str = "inet") -> tuple[str, ...]:
        """Names of the tables that start with ``prefix``, sorted."""
        ...

    async def forget_datagrams(self, address: str, ports: Collection[int]) -> None:
        """Stop rewriting UDP to these targets because of earlier datagrams: the next ones are looked up again."""
        ...


class LinuxFirewall:
    """Tables by ``nft -f -``."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def apply(self, table: str, body: str, family: str = "inet") -> None:
        """Adding a table that may exist, deleting it and adding it again is one transaction, with no gap in
        between.
        """
        await self._load(f"{_emptied(table, family)}table {family} {table} {{\n{body}\n}}\n")

    async def delete(self, table: str, family: str = "inet") -> None:
        """Added first, so that deleting cannot fail."""
        await self._load(_emptied(table, family))

    async def tables(self, prefix: str = "", family: str = "inet") -> tuple[str, ...]:
        """From nft's JSON."""
        answer = await self._processes.run(["nft", "-j", "list", "tables", family])
        entries = [entry["table"]["name"] for entry in orjson.loads(answer.stdout)["nftables"] if "table" in entry]
        return tuple(sorted(name for name in entries if name.startswith(prefix)))

    async def forget_datagrams(self, address: str, ports: Collection[int]) -> None:
        """By netlink. A kernel that cannot do it forgets them when they have been idle."""
        try:
            with conntrack.opened() as sender:
                await in_thread(conntrack.forget, sender, socket.IPPROTO_UDP, address, ports)
        except OSError as error:
            log.warning("Former datagrams to %s are not forgotten: %s", address, error)

    async def _load(self, script: str) -> None:
        await self._processes.run(["nft", "-f", "-"], stdin=script.encode())


def _emptied(table: str, family: str) -> str:
    return f"add table {family} {table}\ndelete table {family} {table}\n"
