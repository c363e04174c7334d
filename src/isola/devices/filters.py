"""Firewall rules against spoofed frames from a NIC of an instance. Pure.

They are in the first hook that a frame passes, before the bridge learns its address, and match the name of the host's
end of the NIC, so that they can be set before it exists. They match messages of neighbour discovery by offsets from the
transport header; so only messages without extension headers and without options except the checked one are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

_SOLICIT, _ADVERT, _ROUTER_SOLICIT = "nd-neighbor-solicit", "nd-neighbor-advert", "nd-router-solicit"
_LEAST_BURST = 131_072
"""Bytes: two frames of 64 KiB, the largest size that links on one host pass without segmentation."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What is accepted from a link; None: not filtered."""

    link: str
    mac: str | None = None
    """The only permitted sender."""
    ipv4: tuple[str, ...] | None = None
    """The only permitted senders; empty: no IPv4 at all."""
    ipv6: tuple[str, ...] | None = None
    """Permitted senders, besides the link-local address derived from the MAC address; empty: no IPv6 at all."""
    subnets6: tuple[str, ...] = ()
    """Where it may have IPv6 addresses: further permitted senders."""
    rate: int | None = None
    """Bits per second; the excess is dropped."""
    priority: int | None = None
    """What its packets get in queues of the host."""

    @property
    def empty(self) -> bool:
        """Whether nothing is filtered."""
        return all(each is None for each in (self.mac, self.ipv4, self.ipv6, self.rate, self.priority))


def link_local(mac: str) -> str:
    """The link-local address that an interface derives from its MAC address."""
    raw = bytearray.fromhex(mac.replace(":", ""))
    raw[0] ^= 2
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + bytes(raw[:3]) + b"\xff\xfe" + bytes(raw[3:])))


def bridge_table(wanted: Filter) -> str:
    """The body of a table of family ``bridge``."""
    lines = [
        "chain frames {",
        "  type filter hook prerouting priority -200; policy accept;",
        f'  iifname "{wanted.link}" jump from_instance',
        "}",
        "chain from_instance {",
        *(f"  {rule}" for rule in _frame_rules(wanted)),
        "}",
    ]
    if wanted.ipv6:
        lines += [
            "chain own_target {",
            *(f"  @th,64,128 {_number(each)} return" for each in _own(wanted)),
            "  drop",
            "}",
        ]
    return "\n".join(lines)


def routed_table(wanted: Filter) -> str:
    """The body of a table of family ``inet``, for a link that is not a port of a bridge."""
    lines = [
        "chain packets {",
        "  type filter hook prerouting priority raw; policy accept;",
        f'  iifname "{wanted.link}" jump from_instance',
        "}",
        "chain from_instance {",
        *(f"  {rule}" for rule in _packet_rules(wanted)),
        "}",
    ]
    if wanted.priority is not None:
        lines.append(_forwarded(f'iifname "{wanted.link}"', wanted.priority))
    return "\n".join(lines)


def forwarded_table(bridge: str, mac: str, priority: int) -> str:
    """The body of a table of family ``inet`` that gives priority to what comes by a bridge and leaves by other links.

    Forwarding IPv4 resets the priority that a frame got on the bridge.
    """
    return _forwarded(f'iifname "{bridge}" ether saddr {mac}', priority)


def _forwarded(match: str, priority: int) -> str:
    return "\n".join((
        "chain forwarded {",
        "  type filter hook forward priority mangle; policy accept;",
        f"  {match} {_priority_rule(priority)}",
        "}",
    ))  # fmt: skip


def _priority_rule(priority: int) -> str:
    """nft writes priorities as handles of classes, in hexadecimal."""
    return f"meta priority set {priority >> 16:x}:{priority & 0xFFFF:x}"


def _frame_rules(wanted: Filter) -> Iterator[str]:
    yield from _rate_rules(wanted)
    if wanted.mac is not None:
        yield f"ether saddr != {wanted.mac} drop"
        yield "ether type arp arp htype != 1 drop"
        yield f"ether type arp arp saddr ether != {wanted.mac} drop"
        yield from _discovery_rules(wanted.mac)
    if wanted.ipv4 is not None or wanted.ipv6 is not None:
        yield "ether type != { arp, ip, ip6 } drop"
    if wanted.ipv4 is not None:
        yield from _ipv4_rules(wanted.ipv4)
    if wanted.ipv6 is not None:
        yield from _ipv6_rules(wanted)


def _discovery_rules(mac: str) -> Iterator[str]:
    """These messages have options from which neighbours learn MAC addresses."""
    number = "0x" + mac.replace(":", "")
    yield (
        "ip6 nexthdr != ipv6-icmp icmpv6 type "
        f"{{ {_ROUTER_SOLICIT}, nd-router-advert, {_SOLICIT}, {_ADVERT}, nd-redirect }} drop"
    )
    yield f"icmpv6 type {{ {_SOLICIT}, {_ADVERT} }} ip6 length != {{ 24, 32 }} drop"
    yield f"icmpv6 type {_ADVERT} ip6 length 32 @th,192,16 != 0x0201 drop"
    yield f"icmpv6 type {_ADVERT} ip6 length 32 @th,208,48 != {number} drop"
    # A sender without an address (duplicate address detection) puts a random nonce in place of its MAC address.
    yield f"icmpv6 type {_SOLICIT} ip6 saddr != :: ip6 length 32 @th,192,16 != 0x0101 drop"
    yield f"icmpv6 type {_SOLICIT} ip6 saddr != :: ip6 length 32 @th,208,48 != {number} drop"
    yield f"icmpv6 type {_ROUTER_SOLICIT} ip6 length != {{ 8, 16 }} drop"
    yield f"icmpv6 type {_ROUTER_SOLICIT} ip6 length 16 @th,64,16 != 0x0101 drop"
    yield f"icmpv6 type {_ROUTER_SOLICIT} ip6 length 16 @th,80,48 != {number} drop"


def _ipv4_rules(addresses: tuple[str, ...]) -> Iterator[str]:
    if not addresses:
        yield "ether type { arp, ip } drop"
        return
    own = ", ".join(addresses)
    yield "ether type arp arp plen != 4 drop"
    yield f"ether type arp arp saddr ip != {{ {own}, 0.0.0.0 }} drop"
    yield "ether type ip udp sport 67 udp dport 68 drop"
    yield "ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept"
    yield f"ether type ip ip saddr != {{ {own} }} drop"


def _ipv6_rules(wanted: Filter) -> Iterator[str]:
    if not wanted.ipv6:
        yield "ether type ip6 drop"
        return
    yield "ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop"
    yield "ether type ip6 udp sport 547 udp dport 546 drop"
    yield f"icmpv6 type {_ADVERT} jump own_target"
    yield f"ip6 saddr :: icmpv6 type {_SOLICIT} jump own_target"
    yield f"ip6 saddr :: icmpv6 type {{ {_SOLICIT}, {_ROUTER_SOLICIT}, mld2-listener-report }} accept"
    yield f"ether type ip6 ip6 saddr != {{ {', '.join((*_own(wanted), *wanted.subnets6))} }} drop"


def _packet_rules(wanted: Filter) -> Iterator[str]:
    yield from _rate_rules(wanted)
    if wanted.ipv4 is not None:
        own = f" ip saddr != {{ {', '.join(wanted.ipv4)} }}" if wanted.ipv4 else ""
        yield f"meta nfproto ipv4{own} drop"
    if wanted.ipv6 is not None:
        # Packets to link-local addresses are not forwarded by the host.
        yield "ip6 daddr { fe80::/10, ff02::/16 } accept"
        own = f" ip6 saddr != {{ {', '.join(wanted.ipv6)} }}" if wanted.ipv6 else ""
        yield f"meta nfproto ipv6{own} drop"


def _rate_rules(wanted: Filter) -> Iterator[str]:
    if wanted.priority is not None:
        yield _priority_rule(wanted.priority)
    if wanted.rate is not None:
        size = max(wanted.rate // 8, 1)
        # The kernel adds the burst to the amount of one second.
        yield f"limit rate over {size} bytes/second burst {max(_LEAST_BURST - size, 1)} bytes drop"


def _own(wanted: Filter) -> tuple[str, ...]:
    assert wanted.mac is not None and wanted.ipv6 is not None
    return tuple(dict.fromkeys((link_local(wanted.mac), *wanted.ipv6)))


def _number(address: str) -> str:
    return f"0x{int(IPv6Address(address)):032x}"
