"""Network links: bridges, veth pairs, macvlans and taps, and the ends inside instances.

``LinuxLinks`` runs ``ip -batch``, one process per call. Pairs are created and set up, and links deleted, by netlink
without a process, because every start and stop needs that. A pair is created with its peer already in the instance's
namespace: moving a link to another namespace later makes the kernel wait for a grace period (20 ms instead of 4).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

import orjson

from isola.errors import AlreadyExists, HostFailure, InvalidInput, NotFound, WrongState
from isola.host import link_settings, netlink, network_namespace, static_routes, taps
from isola.host.link_kinds import PASSTHRU, Bridge, Inside, Loop, Macvlan, Pair, Routing, Tap
from isola.host.link_views import LinkView, view_of
from isola.host.process import Processes
from isola.host.static_routes import Route
from isola.host.threads import in_thread
from isola.host.vanishing_links import VanishingLinks, bring_up_after, make_alone

_LINK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", re.ASCII)
_LINE = re.compile(r"[A-Za-z0-9_.:/ +-]+", re.ASCII)
"""Characters of arguments in batch lines: no line feeds and no quotes, because some come from users."""
_ARP = 0x0806
_ARP_REQUEST = bytes.fromhex("0001 0800 06 04 0001")
"""Ethernet, IPv4, sizes of their addresses, request."""
_BROADCAST = b"\xff" * 6
_MIN_BURST = 16_384
"""Minimum burst of a rate limit, in bytes."""
_DUMMY = "192.0.0.8"
"""The IPv4 dummy address (RFC 7600)."""
_LOOP_MACS = ("0a:69:73:ff:00:01", "0a:69:73:ff:00:02")
_DELETE_PAUSES = (0, 0.005, 0.02, 0.1, 0.5)
"""Seconds before each attempt at deleting a link."""
_VANISH_PAUSES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3)
"""Seconds between looks at a link that the kernel is removing."""


class Links(Protocol):
    """Create, delete and list links in the daemon's network namespace."""

    async def create_bridge(self, bridge: Bridge) -> None:
        """Create it, up, with its addresses. Raises AlreadyExists, HostFailure; nothing remains after a failure."""
        ...

    async def set_addresses(self, link: str, addresses: Sequence[str], mtu: int, mac: str | None = None) -> None:
        """Set the link's global addresses, MTU and MAC address; only differences are changed."""
        ...

    async def connect(self, pair: Pair, namespace: Path, inside: Inside | None = None) -> None:
        """Create a pair: the host's end up and a port of its bridge, the peer in the network namespace of this file.

        With ``inside`` the peer is configured and brought up, and so is ``lo``; without it the peer is down.
        Raises AlreadyExists, WrongState (no such namespace), HostFailure; nothing remains after a failure.
        """
        ...

    async def create_tap(self, tap: Tap) -> None:
        """Create it, up, as a port of its bridge if it has one; nothing remains if this fails.

        Raises AlreadyExists, HostFailure.
        """
        ...

    async def create_loop(self, loop: Loop) -> None:
        """Create it, up, or complete it. Packets that arrive may have any source that the host has a route to."""
        ...

    async def create_macvlan(self, link: Macvlan, namespace: Path, inside: Inside | None = None) -> None:
        """Create it in a network namespace, configured as by ``connect``, once no other has its MAC address.

        Raises WrongState, NotFound (no parent), HostFailure (the address stays in use).
        """
        ...

    async def delete_inside(self, link: str, namespace: Path) -> None:
        """Delete a link in a network namespace; no effect if either does not exist."""
        ...

    async def route(self, link: str, routing: Routing) -> None:
        """Configure an existing link. Deleting the link removes all of this but ``proxied``."""
        ...

    async def add_routes(self, routes: Sequence[Route]) -> None:
        """Add those that are missing. Raises AlreadyExists where the host has another route to the same subnet."""
        ...

    async def remove_routes(self, routes: Sequence[Route]) -> None:
        """Remove these, and no others to the same subnets; no effect where they are missing."""
        ...

    async def unproxy(self, routing: Routing) -> None:
        """Remove the proxy entries of ``proxied``; no effect if there are none."""
        ...

    async def isolate(self, link: str, *, isolated: bool) -> None:
        """Set whether a port of a bridge is isolated: isolated ports cannot reach each other."""
        ...

    async def shape(self, link: str, rate: int | None) -> None:
        """Limit what the host sends through a link to ``rate`` bits per second; None: no limit."""
        ...

    async def join(self, bridge: str, links: Sequence[str]) -> None:
        """Make those of ``links`` that exist ports of the bridge, and bring them up."""
        ...

    async def delete(self, *links: str, vanishing: bool = False) -> None:
        """Delete links (both ends of a pair); no effect if they are missing.

        ``vanishing``: the namespaces of their peers have ended, so that the kernel is removing them already. Deleting
        them nevertheless would only do the same work twice: they are waited for, and deleted if they stay.
        """
        ...

    def delete_vanishing(self, link: str) -> None:
        """``delete`` a vanishing link in the background. ``connect`` waits for those that have not gone yet."""
        ...

    async def exists(self, link: str) -> bool:
        """Whether the daemon's network namespace has a link of this name."""
        ...

    async def names(self, prefix: str = "") -> tuple[str, ...]:
        """Names of all links that start with ``prefix``, sorted."""
        ...

    async def find(self, link: str) -> LinkView | None: ...

    async def all(self) -> tuple[LinkView, ...]: ...

    async def routes(self) -> tuple[str, ...]:
        """Subnets this host has routes to (``10.0.0.0/8``, ``fd00::/64``), default routes aside."""
        ...

    async def enable_forwarding(self, link: str, *, ipv4: bool, ipv6: bool) -> None:
        """Enable forwarding between this link and others for these address families, and disable it for the other."""
        ...

    async def send(self, link: str, address: str, port: int, message: bytes) -> None:
        """Send one UDP datagram over a link, also to the link's own address. Raises HostFailure."""
        ...

    async def announce(self, link: str, mac: str, address: str) -> None:
        """Announce the new MAC address of an IPv4 address to all neighbours on a link (ARP). Raises HostFailure."""
        ...

    def has_ipv6(self) -> bool:
        """Whether this kernel supports IPv6."""
        ...


class LinuxLinks:
    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._packets: socket.socket | None = None
        self._vanishing = VanishingLinks(partial(self.delete, vanishing=True))

    async def create_bridge(self, bridge: Bridge) -> None:
        """Created down, so that duplicate address detection is disabled before addresses are added."""
        _check_name(bridge.name)
        if await self.exists(bridge.name):
            raise AlreadyExists(f"A link named {bridge.name!r} already exists", remedy="choose another name")
        address = f"address {bridge.mac} " if bridge.mac else ""
        try:
            await self._batch(
                f"link add name {bridge.name} {address}mtu {bridge.mtu} type bridge forward_delay 0",
                *([f"link set {bridge.name} alias {bridge.alias}"] if bridge.alias else []),
            )
            await in_thread(link_settings.prepare_router, bridge.name, ipv6=_any_ipv6(bridge.addresses))
            await self._batch(
                *(_add_address(bridge.name, address) for address in bridge.addresses), f"link set {bridge.name} up"
            )
        except BaseException:
            await self.delete(bridge.name)
            raise

    async def set_addresses(self, link: str, addresses: Sequence[str], mtu: int, mac: str | None = None) -> None:
        """Changes only what differs, so that traffic is not interrupted."""
        view = await self.find(link)
        if view is None:
            raise HostFailure(f"There is no link {link!r}")
        present = {f"{a.address}/{a.netmask}" for a in view.state.addresses if a.scope == "global"}
        lines = [f"addr del {address} dev {link}" for address in sorted(present - set(addresses))]
        if mtu != view.state.mtu:
            lines.append(f"link set {link} mtu {mtu}")
        if mac and mac.lower() != view.state.hwaddr:
            lines.append(f"link set {link} address {mac}")
        lines += [_add_address(link, address) for address in addresses if address not in present]
        if view.state.state != "up":
            lines.append(f"link set {link} up")
        # IPv6 is enabled before addresses are added and disabled after their removal: disabling removes them.
        if _any_ipv6(addresses):
            await in_thread(link_settings.prepare_router, link, ipv6=True)
        await self._batch(*lines)
        if not _any_ipv6(addresses):
            await in_thread(link_settings.prepare_router, link, ipv6=False)

    async def connect(self, pair: Pair, namespace: Path, inside: Inside | None = None) -> None:
        """By netlink in one thread, because every start needs it."""
        for name in (pair.host, pair.peer):
            _check_name(name)
        await self._vanishing.gone()
        if await self.exists(pair.host):
            raise AlreadyExists(f"A link named {pair.host!r} already exists")
        opened = network_namespace.open_at(namespace)
        try:
            master = socket.if_nametoindex(pair.bridge) if pair.bridge else None
            announce = self._announcement(pair.bridge, pair.mac, pair.ipv4) if pair.bridge and pair.ipv4 else None
            # Opened here and not in the thread: a socket belongs to the network namespace of the thread that opens it.
            with netlink.opened() as sender:
                await in_thread(
                    _connect, sender, pair, master=master, namespace=opened, inside=inside, announce=announce
                )
        except OSError as error:
            raise HostFailure(f"Cannot connect {pair.host} to {pair.bridge}", evidence=str(error)) from error
        finally:
            os.close(opened)

    async def create_tap(self, tap: Tap) -> None:
        _check_name(tap.name)
        if await self.exists(tap.name):
            raise AlreadyExists(f"A link named {tap.name!r} already exists")
        try:
            master = socket.if_nametoindex(tap.bridge) if tap.bridge else 0
            # Opened here and not in the thread, for the same reason.
            with netlink.opened() as sender:
                await in_thread(_make_tap, sender, taps.opened(), tap, master)
        except OSError as error:
            raise HostFailure(f"Cannot create {tap.name}", evidence=str(error)) from error

    async def create_loop(self, loop: Loop) -> None:
        """The neighbours are permanent entries and routes. The far end needs any address at all: the kernel takes
        nothing from a link without one while it checks the way back to senders.
        """
        ends = ((loop.near, _LOOP_MACS[0]), (loop.far, _LOOP_MACS[1]))
        if not await self.exists(loop.near):
            (near, mac), (far, other) = ends
            await self._batch(f"link add name {near} address {mac} type veth peer name {far} address {other}")
        ipv6 = self.has_ipv6()
        await in_thread(link_settings.prepare_loop, loop.near, loop.far, ipv6=ipv6)
        known = [each for each in Loop.NEIGHBOURS if ipv6 or ":" not in each]
        await self._batch(
            *(f"link set {name} up" for name, _ in ends),
            f"addr replace {_DUMMY}/32 dev {loop.far} scope host",
            *(f"neigh replace {each} lladdr {_LOOP_MACS[1]} nud permanent dev {loop.near}" for each in known),
            *(f"route replace {each} dev {loop.near}" for each in known),
        )

    async def create_macvlan(self, link: Macvlan, namespace: Path, inside: Inside | None = None) -> None:
        """Created inside, so that its name may be in use on the host."""
        _check_name(link.peer)
        if not await self.exists(link.parent):
            raise NotFound(f"The host has no link {link.parent!r}", remedy="name one of its links as parent")
        opened = network_namespace.open_at(namespace)
        mtu = (f"mtu {link.mtu} " if link.mtu else "") + (f"txqueuelen {link.queue} " if link.queue else "")
        try:
            add = f"link add link {link.parent} name {link.peer} address {link.mac} {mtu}netns {_file(opened)}"
            make = partial(self._batch, f"{add} type macvlan mode {link.mode}", namespace=opened)
            await (make_alone(make, link.parent) if link.mode == PASSTHRU else make())
            try:
                await bring_up_after(partial(in_thread, _bring_up, opened, link.peer, stays=inside is not None))
                if inside is not None:
                    await in_thread(_set_up_inside, opened, link.peer, inside)
            except BaseException:
                await self._delete_in(link.peer, opened)
                raise
        except OSError as error:
            remedy = f"give it another MAC address: {link.mac} is that of another link on {link.parent}"
            raise HostFailure(
                f"Cannot set up {link.peer}",
                evidence=str(error),
                remedy=remedy if error.errno == errno.EADDRINUSE else "",
            ) from error
        finally:
            os.close(opened)

    async def delete_inside(self, link: str, namespace: Path) -> None:
        try:
            opened = network_namespace.open_at(namespace)
        except WrongState:
            return
        try:
            await self._delete_in(link, opened)
        finally:
            os.close(opened)

    async def route(self, link: str, routing: Routing) -> None:
        ipv6 = self.has_ipv6()
        await in_thread(link_settings.forward, link, ipv4=True, ipv6=ipv6)
        addresses, subnets, proxied = (
            [each for each in some if ipv6 or ":" not in each]
            for some in (routing.addresses, routing.subnets, routing.proxied)
        )
        await self._batch(
            *(_add_address(link, address, replace=True) for address in addresses),
            *(f"route replace {subnet} dev {link}" for subnet in subnets),
            *(f"neigh replace proxy {address} dev {routing.parent}" for address in proxied),
        )
        if routing.parent:
            await in_thread(link_settings.forward, routing.parent, ipv4=True, ipv6=ipv6)
        if any(":" in address for address in proxied):
            await in_thread(link_settings.enable_ndp_proxy, routing.parent)

    async def add_routes(self, routes: Sequence[Route]) -> None:
        able = [route for route in routes if self.has_ipv6() or ":" not in route.subnet]
        wanted = await static_routes.missing(self._processes, able)
        try:
            await self._batch(*(f"route add {each.line} proto static{' onlink' * bool(each.via)}" for each in wanted))
        except BaseException:
            await self.remove_routes(wanted)
            raise

    async def remove_routes(self, routes: Sequence[Route]) -> None:
        able = [route for route in routes if self.has_ipv6() or ":" not in route.subnet]
        await self._batch(*(f"route del {each.line} proto static" for each in able), force=True)

    async def unproxy(self, routing: Routing) -> None:
        lines = (f"neigh del proxy {address} dev {routing.parent}" for address in routing.proxied)
        await self._batch(*lines, force=True)

    async def isolate(self, link: str, *, isolated: bool) -> None:
        await self._batch(f"link set {link} type bridge_slave isolated {'on' if isolated else 'off'}")

    async def shape(self, link: str, rate: int | None) -> None:
        """By a token bucket filter as the link's root qdisc. The burst is the amount sent in 10 ms at this rate."""
        if rate is None:
            await self._processes.run(["tc", "qdisc", "del", "dev", link, "root"], check=False)
            return
        burst = max(rate // 800, _MIN_BURST)
        limits = ["rate", f"{rate}bit", "burst", str(burst), "latency", "50ms"]
        await self._processes.run(["tc", "qdisc", "replace", "dev", link, "root", "tbf", *limits])

    async def join(self, bridge: str, links: Sequence[str]) -> None:
        there = set(await self.names())
        await self._batch(*(f"link set {link} master {bridge} up" for link in links if link in there))

    async def delete(self, *links: str, vanishing: bool = False) -> None:
        """Errors count only if the link still exists, because a pair may disappear with its namespace meanwhile.

        It is tried again, because a link that the kernel is just removing refuses deletion and is visible for a while.
        """
        for pause in _VANISH_PAUSES if vanishing else ():
            if not any([await self.exists(link) for link in links]):
                return
            await asyncio.sleep(pause)
        doomed = [link for link in links if await self.exists(link)]
        for pause in _DELETE_PAUSES:
            if not doomed:
                return
            await asyncio.sleep(pause)
            with netlink.opened() as sender:
                await in_thread(netlink.delete, sender, doomed)
            doomed = [link for link in doomed if await self.exists(link)]
        if doomed:
            raise HostFailure(f"Cannot delete link {', '.join(doomed)}")

    def delete_vanishing(self, link: str) -> None:
        self._vanishing.add(link)

    async def exists(self, link: str) -> bool:
        """By the directories below ``/proc/sys/net``, without starting a process."""
        return link_settings.is_link(link)

    async def names(self, prefix: str = "") -> tuple[str, ...]:
        return tuple(sorted(name for name in link_settings.links() if name.startswith(prefix)))

    async def find(self, link: str) -> LinkView | None:
        """Also None if the link disappears meanwhile."""
        if not await self.exists(link):
            return None
        views = await self._show("dev", link)
        return views[0] if views else None

    async def all(self) -> tuple[LinkView, ...]:
        return await self._show()

    async def routes(self) -> tuple[str, ...]:
        """Of all routing tables, because VPNs often use one of their own."""
        found: set[str] = set()
        for family in ("-4", "-6") if self.has_ipv6() else ("-4",):
            answer = await self._processes.run(["ip", "-j", family, "route", "show", "table", "all"])
            found |= {str(route["dst"]) for route in orjson.loads(answer.stdout or b"[]") if "dst" in route}
        return tuple(sorted(found - {"default"}))

    async def enable_forwarding(self, link: str, *, ipv4: bool, ipv6: bool) -> None:
        """In a thread, because writing these settings waits for a kernel lock (RTNL)."""
        await in_thread(link_settings.forward, link, ipv4=ipv4, ipv6=ipv6 and self.has_ipv6())

    async def send(self, link: str, address: str, port: int, message: bytes) -> None:
        """With SO_BINDTODEVICE: a receiver that is bound to the link gets only what arrives over it."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sender:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
                sender.sendto(message, (address, port))
        except OSError as error:
            raise HostFailure(f"Cannot send to {address} over {link}", evidence=str(error)) from error

    async def announce(self, link: str, mac: str, address: str) -> None:
        """By an ARP announcement (RFC 5227): neighbours update the entries that they have, and add none."""
        try:
            await in_thread(self._announcement(link, mac, address))
        except OSError as error:
            raise HostFailure(f"Cannot announce {address} on {link}", evidence=str(error)) from error

    def _announcement(self, link: str, mac: str, address: str) -> Callable[[], object]:
        sender = bytes.fromhex(mac.replace(":", ""))
        packet = _ARP_REQUEST + sender + IPv4Address(address).packed + bytes(6) + IPv4Address(address).packed
        if self._packets is None:  # kept, because closing one waits for a grace period of several milliseconds
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._packets = socket.socket(socket.AF_PACKET, kind)
        return partial(self._packets.sendto, packet, (link, _ARP, 0, 0, _BROADCAST))

    def has_ipv6(self) -> bool:
        return link_settings.has_ipv6()

    async def _delete_in(self, link: str, namespace: int) -> None:
        enter = ("nsenter", f"--net={_file(namespace)}")
        await self._batch(f"link del {link}", force=True, namespace=namespace, enter=enter)

    async def _batch(
        self, *lines: str, force: bool = False, namespace: int | None = None, enter: Sequence[str] = ()
    ) -> None:
        if not lines:
            return
        for line in lines:
            if not _LINE.fullmatch(line):
                raise InvalidInput(f"Invalid argument for a link: {line[:120]!r}")
        argv = [*enter, "ip", *(["-force"] if force else []), "-batch", "-"]
        text = "".join(f"{line}\n" for line in lines).encode()
        await self._processes.run(argv, stdin=text, check=not force, pass_fds=() if namespace is None else (namespace,))

    async def _show(self, *what: str) -> tuple[LinkView, ...]:
        answer = await self._processes.run(["ip", "-j", "-d", "-s", "addr", "show", *what], check=not what)
        return tuple(view_of(link) for link in orjson.loads(answer.stdout or b"[]") if link.get("ifname"))


def _make_tap(sender: socket.socket, control: int, tap: Tap, master: int) -> None:
    """Raises OSError; then nothing is left."""
    taps.make(control, tap.name, tap.owner)
    # While a descriptor is open it has a carrier, and would get an address before it is set to have none.
    try:
        netlink.ask(sender, netlink.port(tap.name, master, tap.mtu, queue=tap.queue))
    except OSError:
        netlink.ask(sender, netlink.deletion(tap.name))
        raise


def _connect(
    sender: socket.socket,
    pair: Pair,
    *,
    master: int | None,
    namespace: int,
    inside: Inside | None,
    announce: Callable[[], object] | None,
) -> None:
    """Create a pair in the namespace of a descriptor. Raises OSError; then nothing is left."""
    new = netlink.new_pair(pair.host, pair.peer, mac=pair.mac, mtu=pair.mtu, namespace=namespace, queue=pair.queue)
    netlink.ask(sender, new)
    try:
        netlink.ask(sender, netlink.up(pair.host) if master is None else netlink.port(pair.host, master))
        if inside is not None:
            _set_up_inside(namespace, pair.peer, inside)
    except BaseException:
        netlink.delete(sender, [pair.host])
        raise
    if announce is not None:
        with contextlib.suppress(OSError):
            announce()
    if master is not None and pair.ipv4:  # the announcement reaches the neighbours, not the host itself
        with contextlib.suppress(OSError):
            netlink.ask(sender, netlink.forget_neighbour(master, pair.ipv4))


def _bring_up(namespace: int, peer: str, *, stays: bool) -> None:
    """Also a link that the instance brings up later: then it only must be possible. Raises OSError."""
    with netlink.opened_in(namespace) as sender:
        netlink.ask(sender, netlink.up(peer), *(() if stays else (netlink.down(peer),)))


def _set_up_inside(namespace: int, peer: str, inside: Inside) -> None:
    with netlink.opened_in(namespace) as sender:
        number = netlink.index(sender, peer)
        netlink.ask(
            sender,
            netlink.up("lo"),
            *(netlink.address(number, address) for address in inside.addresses),
            netlink.up(peer),
            *(
                netlink.default_route(number, gateway, metric=inside.metric, onlink=inside.onlink)
                for gateway in inside.gateways
            ),
        )


def _file(descriptor: int) -> str:
    """A path by which a program that inherits the descriptor can open it."""
    return f"/proc/self/fd/{descriptor}"


def _check_name(name: str) -> None:
    if name in ("all", "default") or not _LINK.fullmatch(name):
        remedy = "use up to 15 letters, digits, dots, hyphens and underscores; all and default are reserved"
        raise InvalidInput(f"Invalid link name {name[:40]!r}", field="name", remedy=remedy)


def _any_ipv6(addresses: Iterable[str]) -> bool:
    return any(":" in address for address in addresses)


def _add_address(link: str, address: str, *, replace: bool = False) -> str:
    # nodad: a bridge without ports has no carrier, and without one an IPv6 address stays tentative, which is unusable.
    return f"addr {'replace' if replace else 'add'} {address} dev {link} " + ("nodad" if ":" in address else "brd +")
