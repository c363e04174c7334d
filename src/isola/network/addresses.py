"""Choice of subnets for new networks and of addresses for new NICs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)

from isola.errors import AlreadyExists, Conflict, Exhausted, InvalidInput
from isola.model.network import Nic

_POOLS = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))
"""Private address ranges in the order of preference; the later ones are used if a route covers all of 10.0.0.0/8."""
FIRST_METRIC = 1024
"""Metric of the first NIC's default route, as set by networkd and the kernel for DHCP and router advertisements."""
_FRESH_SECONDS = 600
"""How long a chosen address is reserved for a NIC without a record."""

_NO_LEASES: Mapping[str, str] = {}

Subnet = IPv4Network | IPv6Network
Span = tuple[int, int]
"""First and last address of a range."""


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """The addresses available to a network's NICs."""

    ipv4: IPv4Interface | None = None
    """The gateway's address and the subnet."""
    spans: tuple[Span, ...] = ()
    """IPv4 ranges to choose from, in this order."""
    ipv6: IPv6Interface | None = None
    slaac: bool = True
    """NICs derive their IPv6 address from prefix and MAC (SLAAC); otherwise DHCPv6 assigns those chosen here."""

    def gateways(self) -> tuple[str, ...]:
        """The network's own addresses, which are the router and name server of its NICs."""
        return tuple(str(own.ip) for own in (self.ipv4, self.ipv6) if own is not None)

    def prefixed(self, nic: Nic) -> tuple[str, ...]:
        """A NIC's addresses with their prefix lengths."""
        pairs = ((nic.ipv4, self.ipv4), (nic.ipv6, self.ipv6))
        return tuple(f"{address}/{own.network.prefixlen}" for address, own in pairs if address and own is not None)

    def holds(self, nic: Nic) -> bool:
        """Whether the NIC's addresses lie in these subnets."""
        pairs = ((nic.ipv4, self.ipv4), (nic.ipv6, self.ipv6))
        return all(
            own is not None and ip_address(address) in own.network for address, own in pairs if address is not None
        )


def metric(priority: int, number: int) -> int:
    """Of the default route of NIC ``eth<number>``: the lowest one is used."""
    if priority > 0:
        return FIRST_METRIC - 10 * priority + min(number, 9)
    return FIRST_METRIC + number - 1000 * priority


def subnets(texts: Iterable[str]) -> tuple[Subnet, ...]:
    """Subnets of routes and interface addresses in the kernel's notation; other lines are skipped."""
    found = []
    for text in texts:
        try:
            found.append(ip_network(text, strict=False))
        except ValueError:
            continue
    return tuple(found)


def choose_ipv4(avoid: Sequence[Subnet], seed: int) -> IPv4Interface:
    """The gateway of a /24 that overlaps nothing in ``avoid``; the search starts at ``seed``. Raises Conflict."""
    busy = [subnet for subnet in avoid if isinstance(subnet, IPv4Network) and subnet.prefixlen > 0]
    for pool in _POOLS:
        number = _free_block(pool.num_addresses // 256, [_blocks(pool, s) for s in busy if s.overlaps(pool)], seed)
        if number is not None:
            return IPv4Interface((int(pool.network_address) + number * 256 + 1, 24))
    raise Conflict("No private IPv4 subnet is free", remedy="set ipv4.address to a subnet of your own, or to none")


def choose_ipv6(avoid: Sequence[Subnet], seed: int) -> IPv6Interface:
    """The gateway of a unique local /64 (RFC 4193: fd and 56 random bits) that overlaps nothing in ``avoid``."""
    busy = [subnet for subnet in avoid if isinstance(subnet, IPv6Network) and subnet.prefixlen >= 8]
    for step in range(len(busy) + 1):
        prefix = 0xFD << 120 | ((seed + step) % 2**56) << 64
        subnet = IPv6Network((prefix, 64))
        if not any(subnet.overlaps(other) for other in busy):
            break
    return IPv6Interface((prefix + 1, 64))


def eui64(subnet: IPv6Network, mac: str) -> IPv6Address:
    """The address that a NIC derives from its MAC address in a /64 (RFC 4291, appendix A)."""
    parts = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([parts[0] ^ 2]) + parts[1:3] + b"\xff\xfe" + parts[3:]
    host = int.from_bytes(identifier, "big") & int(subnet.hostmask)
    return IPv6Address(int(subnet.network_address) | host)


@dataclass(slots=True)
class AddressPool:
    """The addresses of one network in memory; choosing one takes the same time with 1 and with 1000 NICs."""

    plan: AddressPlan
    holders: dict[str, str] = field(default_factory=dict)
    """Address -> MAC."""
    owned: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """MAC -> its addresses, also an IPv4 address that it had and does not hold now."""
    remembered: dict[str, str] = field(default_factory=dict)
    """IPv4 address -> the MAC that had it last: others get it when no other address is free."""
    fresh: dict[str, float] = field(default_factory=dict)
    """MAC -> time at which it got addresses that may not be recorded yet."""
    cursor: int = 0

    def refresh(self, nics: Iterable[Nic], now: float) -> None:
        """Rebuild the holders from the recorded NICs and from recent choices."""
        young = {
            mac: (*self.owned[mac], self.holders.get(self.owned[mac][0] or "") == mac)
            for mac, since in self.fresh.items()
            if now - since < _FRESH_SECONDS
        }
        self.fresh = {mac: self.fresh[mac] for mac in young}
        self.holders.clear()
        self.owned.clear()
        self.remembered.clear()
        for nic in nics:
            self._hold(nic.mac, nic.ipv4, nic.ipv6)
            if nic.before is not None:
                self._remember(nic.mac, nic.before)
        for mac, (ipv4, ipv6, held) in young.items():
            self._hold(mac, ipv4 if held else None, ipv6)
            if ipv4 is not None and not held:
                self._remember(mac, ipv4)

    def choose(
        self,
        mac: str,
        ipv4: str | None,
        ipv6: str | None,
        now: float,
        leased: Mapping[str, str] = _NO_LEASES,
        *,
        before: str | None = None,
        resting: bool = False,
    ) -> tuple[str | None, str | None]:
        """The requested addresses for a NIC, or free ones. Raises InvalidInput, AlreadyExists, Exhausted.

        ``before``: an IPv4 address that it gets if that is free. A ``resting`` one holds no IPv4 address but a
        requested one: the answer is the one that it had or may have, if any. Addresses ``leased`` (address -> MAC)
        to other clients are chosen last: the caller must end their leases.
        """
        mac = mac.lower()
        others = {address for address, holder in leased.items() if holder != mac}
        had4, held6 = self.owned.get(mac, (None, None))
        if ipv4:
            chosen4: str | None = self._wanted(ipv4, self.plan.ipv4, mac, "ipv4.address")
        elif had4 is not None and self.holders.get(had4) == mac:
            chosen4 = had4
        elif again := self._again(before or had4, mac, others):
            chosen4 = again
        else:
            chosen4 = self._pick(others | self.remembered.keys()) if resting else self._free_ipv4(others)
        chosen6 = (
            self._wanted(ipv6, self.plan.ipv6, mac, "ipv6.address") if ipv6 else held6 or self._free_ipv6(mac, others)
        )
        self.release(mac)
        self._hold(mac, chosen4 if ipv4 or not resting else None, chosen6)
        if resting and not ipv4 and chosen4 is not None:
            self._remember(mac, chosen4)
        self.fresh[mac] = now
        return chosen4, chosen6

    def release(self, mac: str) -> None:
        """Release the addresses of a MAC, if it has any."""
        for address in self.owned.pop(mac.lower(), ()):
            if address is not None and self.holders.get(address) == mac.lower():
                del self.holders[address]
            if address is not None and self.remembered.get(address) == mac.lower():
                del self.remembered[address]
        self.fresh.pop(mac.lower(), None)

    def rest(self, mac: str) -> None:
        """Release the IPv4 address of a MAC, if it has one, and remember it."""
        mac = mac.lower()
        ipv4, _ = self.owned.get(mac, (None, None))
        if ipv4 is not None and self.holders.get(ipv4) == mac:
            del self.holders[ipv4]
            self._remember(mac, ipv4)
        self.fresh.pop(mac, None)

    def _remember(self, mac: str, ipv4: str) -> None:
        if ipv4 in self.holders:
            return
        self.owned[mac.lower()] = (ipv4, self.owned.get(mac.lower(), (None, None))[1])
        self.remembered[ipv4] = mac.lower()

    def _hold(self, mac: str, ipv4: str | None, ipv6: str | None) -> None:
        self.owned[mac.lower()] = (ipv4, ipv6)
        self.holders |= {address: mac.lower() for address in (ipv4, ipv6) if address is not None}
        if ipv4 is not None:
            self.remembered.pop(ipv4, None)

    def _wanted(self, text: str, own: IPv4Interface | IPv6Interface | None, mac: str, key: str) -> str:
        if own is None:
            raise InvalidInput(f"The network has no {key[:4]} subnet", field=key, remedy=f"leave {key} out")
        try:
            address = ip_address(text)
        except ValueError as error:
            raise InvalidInput(f"Invalid address {text[:80]!r}", field=key, remedy="expected an IP address") from error
        if address not in own.network or address in (own.ip, own.network.network_address):
            raise InvalidInput(
                f"Address {address} cannot be used for NICs", field=key, remedy=f"use a free one of {own.network}"
            )
        if isinstance(address, IPv4Address) and address == own.network.broadcast_address:
            raise InvalidInput(f"Address {address} is the broadcast address", field=key, remedy="use another one")
        if self.holders.get(str(address), mac) != mac:
            raise AlreadyExists(f"Address {address} is in use", evidence=f"by {self.holders[str(address)]}")
        return str(address)

    def _again(self, before: str | None, mac: str, others: Set[str]) -> str | None:
        """An address that it had, if the network still gives it away and no other holds it."""
        own = self.plan.ipv4
        if own is None or before is None or before in others or self.holders.get(before, mac) != mac:
            return None
        number = int(IPv4Address(before))
        free = any(first <= number <= last for first, last in self.plan.spans)
        return before if free and before != str(own.ip) else None

    def _free_ipv4(self, others: Set[str]) -> str | None:
        if self.plan.ipv4 is None or not self.plan.spans:
            return None
        # Unknown clients that have leased all addresses must not block instances: their addresses are chosen last.
        for avoided in (others | self.remembered.keys(), others, frozenset[str]()):
            if (address := self._pick(avoided)) is not None:
                return address
        raise _exhausted(4)

    def _pick(self, avoided: Set[str]) -> str | None:
        own, spans = self.plan.ipv4, self.plan.spans
        size = sum(last - first + 1 for first, last in spans)
        # One more attempt than there are addresses in use (and the gateway) finds a free one.
        for _ in range(min(size, len(self.holders) + len(avoided) + 2)) if own is not None else ():
            address = str(IPv4Address(_nth(spans, self.cursor % size)))
            self.cursor = (self.cursor + 1) % size
            if address not in self.holders and address not in avoided and own is not None and address != str(own.ip):
                return address
        return None

    def _free_ipv6(self, mac: str, others: Set[str]) -> str | None:
        own = self.plan.ipv6
        if own is None or (self.plan.slaac and own.network.prefixlen != 64):
            return None
        address = eui64(own.network, mac)
        if self.plan.slaac:
            return str(address)
        for number in _around(own.network, int(address)):
            free = IPv6Address(number)
            if free != own.ip and str(free) not in self.holders and str(free) not in others:
                return str(free)
        raise _exhausted(6)


def _exhausted(version: int) -> Exhausted:
    return Exhausted(
        f"Every IPv{version} address of the network is in use",
        field=f"ipv{version}.address",
        remedy="use a network with a larger subnet",
    )


def _blocks(pool: IPv4Network, subnet: IPv4Network) -> range:
    """Numbers of the /24 blocks of ``pool`` that ``subnet`` touches."""
    base = int(pool.network_address)
    first = max(int(subnet.network_address) - base, 0) // 256
    last = (min(int(subnet.broadcast_address), int(pool.broadcast_address)) - base) // 256
    return range(first, last + 1)


def _free_block(count: int, busy: Sequence[range], seed: int) -> int | None:
    """The first block from the seed on, wrapping around, that is in no busy range; skips whole ranges."""
    number = seed % count
    for _ in range(2 * len(busy) + 1):
        hit = next((blocks for blocks in busy if number in blocks), None)
        if hit is None:
            return number
        number = hit.stop % count
    return None


def _nth(spans: Sequence[Span], number: int) -> int:
    for first, last in spans:
        if number <= last - first:
            return first + number
        number -= last - first + 1
    raise IndexError(number)


def _around(subnet: IPv6Network, start: int) -> Iterator[int]:
    """Addresses of a subnet from ``start`` on, wrapping around, without the subnet-router anycast address."""
    base, size = int(subnet.network_address), subnet.num_addresses
    for step in range(size):
        offset = (start - base + step) % size
        if offset:
            yield base + offset
