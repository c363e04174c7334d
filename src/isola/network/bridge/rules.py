"""The nftables table of a bridge network; pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, collapse_addresses, ip_network

from isola.model.outside import METADATA4, METADATA6
from isola.network.bridge.config import BridgeConfig, Family


@dataclass(frozen=True, slots=True)
class _Side:
    """One protocol on one bridge. Matches name the family themselves: the table is for both."""

    link: str
    keyword: str
    protocol: str
    family: Family
    routed: tuple[str, ...] = ()
    """Subnets behind its NICs."""

    @property
    def received(self) -> str:
        return f'iifname "{self.link}" meta nfproto {self.protocol}'

    @property
    def leaving(self) -> str:
        # With br_netfilter also what stays on the bridge passes the forward hook, with the bridge on both sides.
        return f'iifname "{self.link}" oifname != "{self.link}" meta nfproto {self.protocol}'

    @property
    def entering(self) -> str:
        return f'oifname "{self.link}" iifname != "{self.link}" meta nfproto {self.protocol}'


def render(link: str, config: BridgeConfig, routed: Collection[str] = ()) -> str:
    """Chains for one bridge: NAT on the way out, and what is allowed to and through the host.

    ``routed`` are further subnets behind its NICs: instances may use them, and others reach them.

    An accept ends only its own chain: a default-drop policy in another table still drops. What our chains
    can do is drop or rewrite, and say what is meant to pass.
    """
    routed4, routed6 = (tuple(sorted(each for each in routed if (":" in each) == six)) for six in (False, True))
    sides = [_Side(link, "ip", "ipv4", config.ipv4, routed4), _Side(link, "ip6", "ipv6", config.ipv6, routed6)]
    enabled = [side for side in sides if side.family.own is not None]
    return "\n".join(
        [
            *_chain("metadata", "filter hook prerouting priority raw", [] if config.metadata else _metadata(link)),
            *_chain("input", "filter hook input priority filter", _input(enabled)),
            *_chain("forward", "filter hook forward priority filter", [rule for s in sides for rule in _forward(s)]),
            *_chain("postrouting", "nat hook postrouting priority srcnat", _masquerade(enabled, after=False)),
            *_chain("postrouting_late", "nat hook postrouting priority srcnat + 10", _masquerade(enabled, after=True)),
        ]
    )


def _chain(name: str, hook: str, rules: list[str]) -> list[str]:
    if not rules:
        return []
    return [f"chain {name} {{", f"  type {hook}; policy accept;", *(f"  {rule}" for rule in rules), "}"]


def _metadata(link: str) -> list[str]:
    """Before any rule rewrites the destination: some hosts answer for the cloud themselves.

    Refused, not dropped, so that no program waits for an answer.
    """
    return [
        f'iifname "{link}" {keyword} daddr {{ {", ".join(addresses)} }} reject'
        for keyword, addresses in (("ip", METADATA4), ("ip6", METADATA6))
    ]


def _input(sides: list[_Side]) -> list[str]:
    rules = []
    for side in sides:
        if not side.family.firewall:
            continue
        rules.append(f"{side.received} meta l4proto {{ tcp, udp }} th dport 53 accept")
        rules.append(f"{side.received} udp dport {'67' if side.keyword == 'ip' else '547'} accept")
        icmp = "icmp type { echo-request, destination-unreachable, time-exceeded }"
        icmp6 = (
            "icmpv6 type { echo-request, packet-too-big, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }"
        )
        rules.append(f'iifname "{side.link}" {icmp if side.keyword == "ip" else icmp6} accept')
    return rules


def _forward(side: _Side) -> list[str]:
    """Which packets the host forwards, and which from outside."""
    family = side.family
    if family.own is None or not family.routing:
        parted = [f"{side.leaving} drop", f"{side.entering} drop"]
        return parted if family.own is not None or family.firewall else []
    # Where the way out is narrower than the bridge, connections must not depend on ICMP finding its way back.
    clamp = f"{side.received} tcp flags syn tcp option maxseg size set rt mtu"
    if not family.firewall:
        return [clamp]
    rules = [f"{side.leaving} {side.keyword} saddr != {_any_of((_subnet(family.own), *side.routed))} drop"]
    if family.nat:
        # What belongs to no connection is not translated, and would leave with an address that no host can answer.
        rules.append(f"{side.leaving} ct state invalid drop")
    rules += [clamp, f"{side.received} accept"]
    if not family.open:
        published = [f"{side.entering} {which} accept" for which in ("ct state established,related", "ct status dnat")]
        if side.routed:
            published.append(f"{side.entering} {side.keyword} daddr {_any_of(side.routed)} accept")
        rules += [*published, f"{side.entering} drop"]
    return [*rules, f'oifname "{side.link}" meta nfproto {side.protocol} accept']


def _masquerade(sides: list[_Side], *, after: bool) -> list[str]:
    rules = []
    for side in sides:
        family = side.family
        if not family.nat or family.nat_after != after or family.own is None:
            continue
        subnet = _subnet(family.own)
        target = f"snat {side.keyword} to {family.nat_address}" if family.nat_address else "masquerade"
        rules.append(f"{side.keyword} saddr {subnet} {side.keyword} daddr != {subnet} {target}")
    return rules


def _any_of(subnets: tuple[str, ...]) -> str:
    """Sets have no room for subnets within others."""
    found = [str(each) for each in collapse_addresses(map(ip_network, subnets))]  # type: ignore[type-var]
    return found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"


def _subnet(own: IPv4Interface | IPv6Interface) -> str:
    return str(own.network)
