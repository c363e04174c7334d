"""Links in memory, with the behaviour of real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

from isola.errors import AlreadyExists, HostFailure, InvalidInput, NotFound, WrongState
from isola.host.link_kinds import PASSTHRU, Bridge, Inside, Loop, Macvlan, Pair, Routing, Tap
from isola.host.link_views import LinkView
from isola.host.static_routes import Route
from isola.model.instance import Address, InterfaceState

_RESERVED = ("all", "default")


class FakeLinks:
    """The host's namespace with an uplink ``eth0``, and the links in other namespaces."""

    def __init__(self, *, physical: Iterable[str] = ("eth0",), routes: Iterable[str] = ()) -> None:
        self._links = {"lo": _view("lo", "loopback")} | {name: _view(name, "physical") for name in physical}
        self._routes = tuple(routes)
        self._gone: set[Path] = set()
        self._peers: dict[str, tuple[Path, str]] = {}
        self.inside: dict[tuple[Path, str], tuple[Pair, Inside | None]] = {}
        """(namespace, name inside) -> the pair to which it belongs, and its configuration."""
        self.taps: dict[str, Tap] = {}
        self.forwarding: dict[str, tuple[bool, bool]] = {}
        """Link -> whether IPv4 and IPv6 are forwarded."""

        self.sent: list[tuple[str, str, int, bytes]] = []
        """Datagrams: link, address, port, content."""
        self.macvlans: dict[tuple[Path, str], tuple[Macvlan, Inside | None]] = {}
        """(namespace, name inside) -> the link."""
        self.routings: dict[str, Routing] = {}
        self.static: dict[str, Route] = {}
        """By subnet."""
        self.proxied: set[tuple[str, str]] = set()
        """Parent link and address."""
        self.isolated: set[str] = set()
        self.rates: dict[str, int] = {}
        self.announced: list[tuple[str, str, str]] = []
        """Link, MAC address, IPv4 address."""

    def add_physical(self, name: str) -> None:
        """Add a link that was not created through this port."""
        self._links[name] = _view(name, "physical")

    async def create_bridge(self, bridge: Bridge) -> None:
        """Create it, up."""
        _check_name(bridge.name)
        if bridge.name in self._links:
            raise AlreadyExists(f"A link named {bridge.name!r} already exists", remedy="choose another name")
        view = _view(bridge.name, "bridge", mac=bridge.mac or "0a:00:00:00:00:01", mtu=bridge.mtu)
        self._links[bridge.name] = replace(_addressed(view, bridge.addresses), alias=bridge.alias)

    async def set_addresses(self, link: str, addresses: Sequence[str], mtu: int, mac: str | None = None) -> None:
        """Replace them."""
        if link not in self._links:
            raise HostFailure(f"There is no link {link!r}")
        view = _addressed(self._links[link], addresses)
        state = replace(view.state, mtu=mtu, hwaddr=mac or view.state.hwaddr, state="up")
        self._links[link] = replace(view, state=state)

    async def connect(self, pair: Pair, namespace: Path, inside: Inside | None = None) -> None:
        """Both ends at once."""
        _check_name(pair.peer)
        if pair.host in self._links:
            raise AlreadyExists(f"A link named {pair.host!r} already exists")
        if namespace in self._gone:
            raise WrongState(f"There is no network namespace {namespace.name}")
        if (pair.bridge and pair.bridge not in self._links) or self._has(namespace, pair.peer):
            raise HostFailure(f"Cannot connect {pair.host}")
        self._links[pair.host] = replace(_view(pair.host, "veth", mtu=pair.mtu), master=pair.bridge)
        self._peers[pair.host] = (namespace, pair.peer)
        self.inside[namespace, pair.peer] = (pair, inside)
        if pair.bridge and pair.ipv4:
            self.announced.append((pair.bridge, pair.mac, pair.ipv4))

    async def create_macvlan(self, link: Macvlan, namespace: Path, inside: Inside | None = None) -> None:
        """Visible inside the namespace only."""
        _check_name(link.peer)
        if link.parent not in self._links:
            raise NotFound(f"The host has no link {link.parent!r}")
        if namespace in self._gone:
            raise WrongState(f"There is no network namespace {namespace.name}")
        if self._has(namespace, link.peer):
            raise HostFailure(f"Cannot make {link.peer}")
        for _ in range(1000):
            others = [each for each, _ in self.macvlans.values() if each.parent == link.parent]
            if not any(link.mode == PASSTHRU or each.mac == link.mac for each in others):
                break
            await asyncio.sleep(0.01)
        self.macvlans[namespace, link.peer] = (link, inside)

    async def delete_inside(self, link: str, namespace: Path) -> None:
        """Of either kind."""
        self.macvlans.pop((namespace, link), None)
        if (namespace, link) in self.inside:
            self._remove(self.inside[namespace, link][0].host)

    async def route(self, link: str, routing: Routing) -> None:
        """Remembered in ``routings``."""
        if link not in self._links:
            raise HostFailure(f"There is no link {link!r}")
        self.routings[link] = routing
        self.proxied |= {(routing.parent, address) for address in routing.proxied}

    async def add_routes(self, routes: Sequence[Route]) -> None:
        """Remembered in ``static``."""
        for route in routes:
            if route.link not in self._links:
                raise HostFailure(f"There is no link {route.link!r}")
            if route.subnet in self._routes or self.static.get(route.subnet, route) != route:
                raise AlreadyExists(f"The host has a route to {route.subnet} already")
        self.static |= {route.subnet: route for route in routes}

    async def remove_routes(self, routes: Sequence[Route]) -> None:
        """Those of other links stay."""
        for route in routes:
            if self.static.get(route.subnet) == route:
                del self.static[route.subnet]

    async def unproxy(self, routing: Routing) -> None:
        """Out of ``proxied``."""
        self.proxied -= {(routing.parent, address) for address in routing.proxied}

    async def isolate(self, link: str, *, isolated: bool) -> None:
        """Remembered in ``isolated``."""
        if link not in self._links:
            raise HostFailure(f"There is no link {link!r}")
        (self.isolated.add if isolated else self.isolated.discard)(link)

    async def shape(self, link: str, rate: int | None) -> None:
        """Remembered in ``rates``."""
        if rate is None:
            self.rates.pop(link, None)
        elif link in self._links:
            self.rates[link] = rate
        else:
            raise HostFailure(f"There is no link {link!r}")

    async def join(self, bridge: str, links: Sequence[str]) -> None:
        """Those that exist."""
        if bridge not in self._links:
            raise HostFailure(f"There is no link {bridge!r}")
        for link in links:
            if link in self._links:
                self._links[link] = replace(self._links[link], master=bridge)

    async def delete(self, *links: str, vanishing: bool = False) -> None:
        """Ports of a bridge stay, without a master."""
        for link in links:
            self._remove(link)

    def delete_vanishing(self, link: str) -> None:
        self._remove(link)

    async def exists(self, link: str) -> bool:
        return link in self._links

    async def names(self, prefix: str = "") -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(name for name in self._links if name.startswith(prefix)))

    async def find(self, link: str) -> LinkView | None:
        return self._links.get(link)

    async def all(self) -> tuple[LinkView, ...]:
        return tuple(self._links.values())

    async def routes(self) -> tuple[str, ...]:
        """Those given by the test, and the subnets of links."""
        own = (f"{a.address}/{a.netmask}" for view in self._links.values() for a in view.state.addresses)
        return tuple(sorted({*self._routes, *(str(ip_interface(text).network) for text in own)}))

    async def enable_forwarding(self, link: str, *, ipv4: bool, ipv6: bool) -> None:
        """Remembered in ``forwarding``."""
        self.forwarding[link] = (ipv4, ipv6)

    async def send(self, link: str, address: str, port: int, message: bytes) -> None:
        """Remembered in ``sent``."""
        if link not in self._links:
            raise HostFailure(f"Cannot send to {address} over {link}")
        self.sent.append((link, address, port, message))

    async def announce(self, link: str, mac: str, address: str) -> None:
        """Remembered in ``announced``."""
        if link not in self._links:
            raise HostFailure(f"Cannot announce {address} on {link}")
        self.announced.append((link, mac, address))

    def has_ipv6(self) -> bool:
        """Always true."""
        return True

    async def create_tap(self, tap: Tap) -> None:
        """One end."""
        _check_name(tap.name)
        if tap.name in self._links:
            raise AlreadyExists(f"A link named {tap.name!r} already exists")
        if tap.bridge and tap.bridge not in self._links:
            raise HostFailure(f"Cannot make {tap.name}")
        self._links[tap.name] = replace(_view(tap.name, "tun", mtu=tap.mtu), master=tap.bridge)
        self.taps[tap.name] = tap

    async def create_loop(self, loop: Loop) -> None:
        """Both ends."""
        for name in (loop.near, loop.far):
            _check_name(name)
            self._links.setdefault(name, _view(name, "veth"))

    def appear(self, namespace: Path) -> None:
        """A namespace is created, maybe under the path of one that has ended."""
        self._gone.discard(namespace)

    def vanish(self, namespace: Path) -> None:
        """The namespace ends, and its links are removed."""
        self._gone.add(namespace)
        for host in [host for host, (owner, _) in self._peers.items() if owner == namespace]:
            self._remove(host)
        for key in [key for key in self.macvlans if key[0] == namespace]:
            del self.macvlans[key]

    def _has(self, namespace: Path, name: str) -> bool:
        return (namespace, name) in self.inside or (namespace, name) in self.macvlans

    def _remove(self, link: str) -> None:
        if self._links.pop(link, None) is None:
            return
        if link.endswith("-gate"):  # a loop, whose ends go together
            self._links.pop(f"{link}-in", None)
        if link in self._peers:
            self.inside.pop(self._peers.pop(link), None)
        self.forwarding.pop(link, None)
        self.routings.pop(link, None)
        self.isolated.discard(link)
        self.static = {subnet: route for subnet, route in self.static.items() if route.link != link}
        self.rates.pop(link, None)
        self.taps.pop(link, None)
        for name, view in self._links.items():
            if view.master == link:
                self._links[name] = replace(view, master="")


def _check_name(name: str) -> None:
    if not name or name in _RESERVED or len(name) > 15 or not name.replace("-", "").replace(".", "").isalnum():
        raise InvalidInput(f"Invalid link name {name[:40]!r}", field="name")


def _view(name: str, kind: str, *, mac: str = "0a:00:00:00:00:00", mtu: int = 1500) -> LinkView:
    return LinkView(name, kind, InterfaceState(name=name, hwaddr=mac, mtu=mtu))


def _addressed(view: LinkView, addresses: Sequence[str]) -> LinkView:
    interfaces = [ip_interface(text) for text in addresses]
    shown = tuple(
        Address("inet" if i.version == 4 else "inet6", str(i.ip), str(i.network.prefixlen), "global")
        for i in interfaces
    )
    return replace(view, state=replace(view.state, addresses=shown))
