"""What links are made of, as values; ``links`` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

PASSTHRU = "passthru"
"""A mode of macvlans, which need their parent for themselves then."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge with its own addresses (``10.1.2.1/24``, ``fd42::1/64``)."""

    name: str
    addresses: tuple[str, ...] = ()
    mtu: int = 1500
    mac: str | None = None
    alias: str = ""
    """Shown by ``ip link``: names the owner."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A veth pair: ``host`` is the end on the host, a port of ``bridge``; ``peer`` is the name of the end inside."""

    host: str
    peer: str
    bridge: str
    """Empty: the host's end is not a port of a bridge."""
    mac: str
    """MAC address of the peer."""
    mtu: int = 1500
    ipv4: str | None = None
    """Address of the peer, whose MAC address is announced to all neighbours on the bridge."""
    queue: int | None = None
    """Length of the queues of both ends, in packets; None: the kernel's default."""


@dataclass(frozen=True, slots=True)
class Tap:
    """A link whose other end is a file descriptor, held by the monitor of a virtual machine.

    It is persistent: it remains when the monitor ends. Only root and the user ``owner`` may open it.
    """

    name: str
    bridge: str
    """Empty: it is not a port of a bridge."""
    owner: int = 0
    mtu: int = 1500
    queue: int | None = None
    """Length of its queue, in packets."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A veth pair with both ends in the daemon's namespace: what is sent to a neighbour on ``near`` arrives on ``far``
    as if it came from outside.
    """

    near: str
    far: str

    NEIGHBOURS: ClassVar[tuple[str, str]] = ("240.0.0.8", "fe80::8")
    """A reserved IPv4 address, which no network has, and a link-local one."""


@dataclass(frozen=True, slots=True)
class Inside:
    """Configuration of the peer, if the host does it: addresses with prefix length, and default routes."""

    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    metric: int = 1024
    """Of the default routes. If there are several NICs, the route with the lowest metric is used."""
    onlink: bool = False
    """The gateways are reachable directly, although they are in none of the subnets of the addresses inside."""


@dataclass(frozen=True, slots=True)
class Macvlan:
    """A link inside with its own MAC address on a link of the host; it reaches that link's network, not the host."""

    parent: str
    peer: str
    """Its name inside."""
    mac: str
    mtu: int | None = None
    """None: that of the parent."""
    mode: str = "bridge"
    """Whether links on the same parent reach each other: ``bridge``, ``private``, ``vepa``, ``passthru``."""
    queue: int | None = None
    """Length of its queue, in packets."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Addresses and routes on the host for a pair that is not a port of a bridge."""

    addresses: tuple[str, ...] = ()
    """Of the host's end, with prefix length."""
    subnets: tuple[str, ...] = ()
    """Routed to the link."""
    proxied: tuple[str, ...] = ()
    """Addresses for which the host answers ARP and NDP on the link ``parent``, so that neighbours there reach them."""
    parent: str = ""
