"""Packet filter: one nftables table per owner, replaced atomically."""

from __future__ import annotations

from typing import Protocol

import orjson

from isola.host.process import Processes


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

    async def _load(self, script: str) -> None:
        await self._processes.run(["nft", "-f", "-"], stdin=script.encode())


def _emptied(table: str, family: str) -> str:
    return f"add table {family} {table}\ndelete table {family} {table}\n"
