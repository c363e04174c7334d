"""Network links: bridges, pairs, and their ends inside instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge with its own addresses (``10.1.2.1/24``, ``fd42::1/64``)."""

    name: str
    addresses: tuple[str, ...] = ()
    mtu: int = 1500
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A veth pair: ``host`` stays here as a port of ``bridge``, ``peer`` is moved into an instance."""

    host: str
    peer: str
    bridge: str
    mac: str
    """MAC address of the peer."""
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class Inside:
    """How a moved link is set up inside, when the host does it: addresses with prefix length, default routes."""

    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()


class Links(Protocol):
    """Make, move, remove and list links in the daemon's network namespace."""

    async def create_bridge(self, bridge: Bridge) -> None:
        """Create it, up, with its addresses. Raises AlreadyExists, HostFailure; nothing stays when it fails."""
        ...

    async def set_addresses(self, link: str, addresses: Sequence[str], mtu: int) -> None:
        """Make these the only global addresses of the link, and this its MTU."""
        ...

    async def create_pair(self, pair: Pair) -> None:
        """Create both ends in this namespace, the host end up and in the bridge."""
        ...

    async def move_into(self, peer: str, pid: int, name: str, inside: Inside | None = None) -> None:
        """Move ``peer`` into the network namespace of ``pid`` as ``name``; with ``inside`` set it up there too."""
        ...

    async def delete(self, link: str) -> None:
        """Delete a link (both ends of a pair); fine when it is not there."""
        ...

    async def exists(self, link: str) -> bool:
        """Whether a link of this name is in this namespace."""
        ...

    async def names(self, prefix: str = "") -> tuple[str, ...]:
        """Names of all links that start with ``prefix``."""
        ...

    async def enable_forwarding(self, link: str, *, ipv4: bool, ipv6: bool) -> None:
        """Let the kernel forward between links for the named families."""
        ...
