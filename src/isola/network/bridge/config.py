"""Configuration of bridge networks: the keys, what they mean together, and what is filled in; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import cast

from isola.errors import InvalidInput
from isola.model.identity import HostNames
from isola.model.network import Network
from isola.network import values
from isola.network.addresses import AddressPlan, Span, Subnet, choose_ipv4, choose_ipv6, subnets
from isola.settings import Setting, Settings, boolean, one_of, text, whole

_LINK = "volatile.bridge.name"
_NO_LINKS: Mapping[str, Sequence[str]] = {}
_DYNAMIC_SHARE = 8
"""Clients unknown to us get the last eighth of a subnet, out of the way of the addresses we choose."""

SETTINGS = Settings(
    "network",
    Setting(
        "bridge.name",
        values.link,
        "Name of the bridge on the host, set at creation; the network's own where that can be a link's.",
    ),
    Setting("bridge.driver", one_of("native"), "Kind of bridge; only the kernel's own is offered.", "native"),
    Setting("bridge.hwaddr", values.mac, "MAC address of the bridge; generated once when not set.", live=True),
    Setting(
        "bridge.mtu",
        whole(1280, 65535),
        "MTU: of the bridge at once, of NICs from the next start of their instance.",
        "1500",
        live=True,
    ),
    Setting("dns.domain", values.domain, "Domain of the names of instances.", "isola", live=True),
    Setting(
        "dns.mode",
        one_of("managed", "dynamic", "none"),
        "Names in DNS: those of the instances (managed), those DHCP clients give themselves (dynamic), or none.",
        "managed",
        live=True,
    ),
    Setting(
        "dns.forward",
        boolean,
        "Forward queries for names outside dns.domain to the host's resolvers.",
        "true",
        live=True,
    ),
    Setting("dns.search", values.domains, "DNS search domains sent by DHCP; dns.domain when not set.", live=True),
    *(
        row
        for v, shortest, longest, example in ((4, 8, 30, "10.1.2.1/24"), (6, 16, 126, "fd42:1:2:3::1/64"))
        for row in (
            Setting(
                f"ipv{v}.address",
                values.gateway(v, shortest, longest),
                f"The network's own IPv{v} address such as {example}; auto: a free subnet is chosen once; none, which"
                " is also what it becomes when it is unset later.",
                "auto",
                live=True,
            ),
            Setting(f"ipv{v}.dhcp", boolean, f"Serve addresses by DHCPv{v}.", "true", live=True),
            Setting(f"ipv{v}.dhcp.expiry", values.expiry, "How long a lease lasts.", "1h", live=True),
            Setting(
                f"ipv{v}.dhcp.ranges", values.ranges(v), "FIRST-LAST ranges for DHCP; all when not set.", live=True
            ),
            Setting(
                f"ipv{v}.firewall",
                boolean,
                "Create firewall rules: allow DHCP, DNS and forwarding; drop forged sources and what NAT shields.",
                "true",
                live=True,
            ),
            Setting(
                f"ipv{v}.nat",
                boolean,
                "Masquerade the subnet behind the host's address; set to true when the subnet is chosen automatically.",
                "false",
                live=True,
            ),
            Setting(
                f"ipv{v}.nat.inbound",
                one_of("replies", "all"),
                "Traffic from outside to the subnet: only replies and published ports (default with NAT), or all.",
                live=True,
            ),
            Setting(f"ipv{v}.nat.address", values.address(v), "The host's address to use for NAT.", live=True),
            Setting(
                f"ipv{v}.nat.order", one_of("before", "after"), "Before or after other NAT rules.", "before", live=True
            ),
            Setting(f"ipv{v}.routing", boolean, "Forward between the bridge and other networks.", "true", live=True),
        )
    ),
    Setting("ipv6.dhcp.stateful", boolean, "Hand out IPv6 addresses instead of only advertising the prefix.", "false"),
    Setting("raw.dnsmasq", text, "Lines added to dnsmasq's configuration unchanged; for administrators.", live=True),
    Setting(
        "security.metadata",
        boolean,
        "Let instances ask the metadata service of the cloud the host runs in (169.254.169.254, fd00:ec2::254, ...).",
        "false",
        live=True,
    ),
    Setting(
        "security.port_isolation",
        boolean,
        "Block frames between the network's instances; from the next start of an instance.",
        "false",
    ),
    Setting("user.*", text, "User-defined, not interpreted."),
    Setting("volatile.*", text, "Internal data of the daemon.", read_only=True),
)

OF_HOST = frozenset(
    {
        "raw.dnsmasq",  # can make dnsmasq open files and start programs of the host
        "security.metadata",  # secrets of the host
        "bridge.name",
        *(f"ipv{v}.{key}" for v in (4, 6) for key in ("address", "firewall", "nat.address", "nat.order")),
    }
)


@dataclass(frozen=True, slots=True)
class Family:
    """What the configuration says of IPv4 or of IPv6; ``own`` is None where the network does not use it."""

    own: IPv4Interface | IPv6Interface | None
    dhcp: bool
    ranges: tuple[Span, ...]
    expiry: str
    firewall: bool
    nat: bool
    open: bool
    """New connections from outside reach the instances."""
    nat_address: str | None
    nat_after: bool
    routing: bool


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """A validated configuration with its defaults."""

    ipv4: Family
    ipv6: Family
    stateful: bool
    mtu: int
    mac: str | None
    domain: str
    search: tuple[str, ...]
    forward: bool
    """Whether the name server asks others about foreign names."""
    names: str
    """``managed``, ``dynamic`` or ``none``."""
    metadata: bool
    """Whether instances may ask the cloud's metadata service."""
    raw: str

    @classmethod
    def read(cls, config: Mapping[str, str]) -> BridgeConfig:
        """Raises InvalidInput naming the key."""
        SETTINGS.validate(config)

        def value(key: str) -> object:
            return SETTINGS.value(config, key)

        domain = cast(str, value("dns.domain"))
        ipv6 = _family(config, 6)
        read = cls(
            ipv4=_family(config, 4),
            ipv6=ipv6,
            stateful=ipv6.dhcp and bool(value("ipv6.dhcp.stateful")),
            mtu=cast(int, value("bridge.mtu")),
            mac=cast(str | None, value("bridge.hwaddr")) or config.get("volatile.bridge.hwaddr"),
            domain=domain,
            search=cast(tuple[str, ...] | None, value("dns.search")) or (domain,),
            forward=bool(value("dns.forward")),
            names=cast(str, value("dns.mode")),
            metadata=bool(value("security.metadata")),
            raw=config.get("raw.dnsmasq", ""),
        )
        read._check_ranges()
        return read

    def addresses(self) -> tuple[str, ...]:
        """The bridge's own, with prefix length."""
        return tuple(str(family.own) for family in (self.ipv4, self.ipv6) if family.own is not None)

    def plan(self) -> AddressPlan:
        """Which addresses NICs may have. Without DHCP they would not learn an IPv4 one, so none is chosen."""
        ipv4, ipv6 = cast(IPv4Interface | None, self.ipv4.own), cast(IPv6Interface | None, self.ipv6.own)
        spans = (self.ipv4.ranges or _halves(ipv4)) if self.ipv4.dhcp else ()
        return AddressPlan(ipv4, spans, ipv6, slaac=not self.stateful)

    def dynamic_ipv4(self) -> tuple[Span, ...]:
        """Where clients unknown to us get their addresses."""
        return self.ipv4.ranges or _halves(self.ipv4.own)[1:]

    def _check_ranges(self) -> None:
        for key, family in (("ipv4.dhcp.ranges", self.ipv4), ("ipv6.dhcp.ranges", self.ipv6)):
            for span in family.ranges:
                if family.own is None or any(ip_address(end) not in family.own.network for end in span):
                    raise InvalidInput(
                        f"A range of {key} is outside the network's subnet",
                        field=f"config.{key}",
                        remedy=f"use addresses of {family.own.network}" if family.own else "the network has no subnet",
                    )


def link_of(names: HostNames, network: Network) -> str:
    """The name of a network's bridge on the host: the configured or recorded one, or the one that its name gives."""
    return network.config.get("bridge.name") or network.config.get(_LINK) or names.bridge(network.name)


def named(names: HostNames, network: Network, attempt: int) -> Network:
    """The network with the name of its bridge recorded, unless it is configured or the same as its own."""
    config = {key: value for key, value in network.config.items() if key != _LINK}
    link = names.bridge(network.name, attempt)
    if link != network.name and not config.get("bridge.name"):
        config[_LINK] = link
    return replace(network, config=config)


def complete(
    config: Mapping[str, str],
    previous: Mapping[str, str],
    *,
    others: Sequence[Network],
    routed: Sequence[Subnet],
    seed: int,
    has_ipv6: bool,
    links: Mapping[str, Sequence[str]] = _NO_LINKS,
) -> dict[str, str]:
    """Fill in what is ``auto`` or, in a new network, not set, for good; ``previous`` is what it had so far.

    ``routed`` is what the host reaches already and a chosen subnet must not hide; ``links`` has the addresses of its
    links that are not ours, those of other daemons' networks among them. Raises InvalidInput, Conflict.
    """
    BridgeConfig.read({key: value for key, value in config.items() if not key.endswith(".dhcp.ranges")})
    whole_config = {key: value for key, value in config.items() if value != "" and not key.startswith("volatile.")}
    for key in ("ipv4.address", "ipv6.address") if previous else ():
        whole_config.setdefault(key, "none")  # unset: with Incus, too, the network loses its address
    taken = {other.name: _subnets(other) for other in others}
    there = [subnet for addresses in links.values() for subnet in subnets(addresses)]
    avoid = [*routed, *there, *(subnet for theirs in taken.values() for subnet in theirs)]
    for key, choose in (("ipv4", choose_ipv4), ("ipv6", choose_ipv6)):
        if whole_config.get(f"{key}.address", "auto") != "auto":
            _refuse_overlap(key, whole_config[f"{key}.address"], taken)
            if whole_config[f"{key}.address"] != previous.get(f"{key}.address"):
                _refuse_link(key, whole_config[f"{key}.address"], links)
        elif key == "ipv6" and not has_ipv6:
            whole_config["ipv6.address"] = "none"
        else:
            former = previous.get(f"{key}.address", "none")
            whole_config[f"{key}.address"] = str(choose(avoid, seed)) if former == "none" else former
            whole_config.setdefault(f"{key}.nat", "true")
    if previous and whole_config.get("bridge.name", "") != previous.get("bridge.name", ""):
        raise InvalidInput("The name of a bridge is set at creation", field="config.bridge.name", remedy="leave it")
    if _LINK in previous:
        whole_config[_LINK] = previous[_LINK]
    whole_config["volatile.bridge.hwaddr"] = previous.get("volatile.bridge.hwaddr") or _made_up_mac(seed)
    BridgeConfig.read(whole_config)
    return whole_config


def _family(config: Mapping[str, str], version: int) -> Family:
    def value(key: str) -> object:
        return SETTINGS.value(config, f"ipv{version}.{key}")

    return Family(
        own=cast(IPv4Interface | IPv6Interface | None, value("address")),
        dhcp=bool(value("dhcp")),
        ranges=cast(tuple[Span, ...] | None, value("dhcp.ranges")) or (),
        expiry=cast(str, value("dhcp.expiry")),
        firewall=bool(value("firewall")),
        nat=bool(value("nat")),
        open=(value("nat.inbound") or ("replies" if value("nat") else "all")) == "all",
        nat_address=cast(str | None, value("nat.address")),
        nat_after=value("nat.order") == "after",
        routing=bool(value("routing")),
    )


def _halves(own: IPv4Interface | IPv6Interface | None) -> tuple[Span, ...]:
    """A subnet in two: what we choose from first, and the share of unknown clients."""
    if own is None:
        return ()
    first, last = int(own.network.network_address) + 1, int(own.network.broadcast_address) - 1
    share = max(own.network.num_addresses // _DYNAMIC_SHARE, 1)
    return (first, last - share), (last - share + 1, last)


def _subnets(network: Network) -> tuple[Subnet, ...]:
    config = BridgeConfig.read(network.config) if network.driver == "bridge" else None
    families = (config.ipv4, config.ipv6) if config else ()
    return tuple(family.own.network for family in families if family.own is not None)


def _refuse_overlap(key: str, text: str, taken: Mapping[str, Sequence[Subnet]]) -> None:
    own = SETTINGS.value({f"{key}.address": text}, f"{key}.address")
    for name, theirs in taken.items() if own is not None else ():
        network = cast(IPv4Interface | IPv6Interface, own).network
        if any(network.version == subnet.version and network.overlaps(subnet) for subnet in theirs):
            raise InvalidInput(
                f"Subnet {network} overlaps that of network {name!r}",
                field=f"config.{key}.address",
                remedy="use another subnet, or auto",
            )


def _refuse_link(key: str, text: str, links: Mapping[str, Sequence[str]]) -> None:
    """A part of a link's subnet may be set aside for a network; its addresses, or all of it, may not."""
    own = SETTINGS.value({f"{key}.address": text}, f"{key}.address")
    for name, address in [(name, address) for name, there in links.items() for address in there]:
        network, interface = cast(IPv4Interface | IPv6Interface | None, own), _interface(address)
        if network is None or interface is None or network.version != interface.version:
            continue
        if interface.ip in network.network or network.network.supernet_of(interface.network):  # type: ignore[arg-type]
            raise InvalidInput(
                f"Subnet {network.network} overlaps that of link {name!r}",
                field=f"config.{key}.address",
                evidence=f"it has the address {address}",
                remedy="use another subnet, or auto",
            )


def _interface(text: str) -> IPv4Interface | IPv6Interface | None:
    try:
        return ip_interface(text)
    except ValueError:
        return None


def _made_up_mac(seed: int) -> str:
    tail = f"{seed % 2**24:06x}"
    return f"0a:69:73:{tail[0:2]}:{tail[2:4]}:{tail[4:6]}"
