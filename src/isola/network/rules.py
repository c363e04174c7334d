"""The nftables table of a bridge network; pure."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface

from isola.network.bridge import BridgeConfig, Family


def render(link: str, config: BridgeConfig) -> str:
    """Chains for one bridge: NAT on the way out, and what is allowed to and through the host.

    An accept ends only its own chain: a default-drop policy in somebody else's table still drops. What our chains
    can do is drop or rewrite, and say what is meant to pass.
    """
    families = [(word, family) for word, family in (("ip", config.ipv4), ("ip6", config.ipv6)) if family.own]
    return "\n".join(
        [
            *_chain("input", "filter hook input priority filter", _input(link, families)),
            *_chain("forward", "filter hook forward priority filter", _forward(link, families)),
            *_chain("postrouting", "nat hook postrouting priority srcnat", _masquerade(families, after=False)),
            *_chain("postrouting_late", "nat hook postrouting priority srcnat + 10", _masquerade(families, after=True)),
        ]
    )


def _chain(name: str, hook: str, rules: list[str]) -> list[str]:
    if not rules:
        return []
    return [f"chain {name} {{", f"  type {hook}; policy accept;", *(f"  {rule}" for rule in rules), "}"]


def _input(link: str, families: list[tuple[str, Family]]) -> list[str]:
    rules = []
    for word, family in families:
        if not family.firewall:
            continue
        protocol = f'iifname "{link}" meta nfproto {_NFPROTO[word]}'
        rules.append(f"{protocol} meta l4proto {{ tcp, udp }} th dport 53 accept")
        rules.append(f"{protocol} udp dport {'67' if word == 'ip' else '547'} accept")
        icmp = "icmp type { echo-request, destination-unreachable, time-exceeded }"
        icmp6 = (
            "icmpv6 type { echo-request, packet-too-big, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }"
        )
        rules.append(f'iifname "{link}" {icmp if word == "ip" else icmp6} accept')
    return rules


def _forward(link: str, families: list[tuple[str, Family]]) -> list[str]:
    rules = []
    for word, family in families:
        protocol = f"meta nfproto {_NFPROTO[word]}"
        if not family.routing:
            # Between ports of the bridge nothing is forwarded by IP, so this parts the network from all others.
            rules += [f'{way} "{link}" {protocol} drop' for way in ("iifname", "oifname")]
            continue
        # Where the way out is narrower than the bridge, connections must not depend on ICMP finding its way back.
        rules.append(f'iifname "{link}" {protocol} tcp flags syn tcp option maxseg size set rt mtu')
        if family.firewall:
            rules += [f'{way} "{link}" {protocol} accept' for way in ("iifname", "oifname")]
    return rules


def _masquerade(families: list[tuple[str, Family]], *, after: bool) -> list[str]:
    rules = []
    for word, family in families:
        if not family.nat or family.nat_after != after or family.own is None:
            continue
        subnet = _subnet(family.own)
        target = f"snat {word} to {family.nat_address}" if family.nat_address else "masquerade"
        rules.append(f"{word} saddr {subnet} {word} daddr != {subnet} {target}")
    return rules


def _subnet(own: IPv4Interface | IPv6Interface) -> str:
    return str(own.network)


_NFPROTO = {"ip": "ipv4", "ip6": "ipv6"}
