"""NICs of instances: their configuration as one value, and what the host's networks are told of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isola.devices import values
from isola.devices.driver import Plug
from isola.devices.filters import Filter
from isola.model.identity import HostNames
from isola.model.network import Nic
from isola.model.reference import Ref
from isola.runtimes import TapNic
from isola.settings import boolean

NONE = "none"
"""Instead of an address: none of this family."""
HWADDR, NETWORK, NAME, MTU, IPV4, IPV6, HOST_NAME = "hwaddr", "network", "name", "mtu", "ipv4", "ipv6", "host_name"
"""Facts of a NIC."""
Config = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What can be changed while the NIC stays connected."""

    mac_filtering: bool
    ipv4_filtering: bool
    ipv6_filtering: bool
    isolated: bool
    ingress: int | None
    """Bits a second to the instance."""
    egress: int | None
    """Bits a second from the instance."""

    @classmethod
    def read(cls, config: Config) -> Behaviour:
        """To filter addresses is to filter MAC addresses too: who has another one has other addresses."""

        def true(key: str) -> bool:
            return boolean(config.get(key) or "false")

        def rate(key: str) -> int | None:
            value = config.get(key) or config.get("limits.max")
            return values.rate(value) if value else None

        ipv4, ipv6 = true("security.ipv4_filtering"), true("security.ipv6_filtering")
        return cls(
            mac_filtering=true("security.mac_filtering") or ipv4 or ipv6,
            ipv4_filtering=ipv4,
            ipv6_filtering=ipv6,
            isolated=true("security.port_isolation"),
            ingress=rate("limits.ingress"),
            egress=rate("limits.egress"),
        )


def kind(config: Config) -> str:
    """The ``nictype``: what is not said is a port of a bridge."""
    return config.get("nictype") or "bridged"


def network_name(config: Config) -> str:
    """The managed network that a NIC names, or may name as its parent; empty where it cannot be one."""
    if kind(config) != "bridged":
        return ""
    return config.get("network") or config.get("parent") or ""


def host_link(plug: Plug, names: HostNames) -> str:
    """Name of the host's end."""
    return plug.config.get(HOST_NAME) or names.veth(plug.instance.id, plug.name)


def filter_of(plug: Plug, names: HostNames) -> Filter:
    """What may come from a port of a bridge."""
    behaviour, facts = Behaviour.read(plug.config), plug.state.facts
    return Filter(
        link=host_link(plug, names),
        mac=facts[HWADDR] if behaviour.mac_filtering else None,
        ipv4=_listed(facts.get(IPV4)) if behaviour.ipv4_filtering else None,
        ipv6=_senders6(plug) if behaviour.ipv6_filtering else None,
        rate=behaviour.egress,
    )


def routed_filter_of(plug: Plug, names: HostNames) -> Filter:
    """What may come from a NIC that is routed to: its own addresses and subnets, always; of one that is not, all."""
    config, own = plug.config, kind(plug.config) == "routed"
    rate = Behaviour.read(config).egress
    if not own:
        return Filter(link=host_link(plug, names), rate=rate)
    ipv4, ipv6 = addresses(config, 4), addresses(config, 6)
    return Filter(
        link=host_link(plug, names),
        ipv4=(*ipv4, *_listed(config.get("ipv4.routes"))),
        ipv6=(*ipv6, *_listed(config.get("ipv6.routes"))),
        rate=rate,
    )


def addresses(config: Config, version: int) -> tuple[str, ...]:
    """The addresses that are configured for a NIC that is routed to."""
    value = config.get(f"ipv{version}.address")
    return () if value in (None, "", NONE) else _listed(value)


def nic_of(plug: Plug, names: HostNames, network: Ref, hostname: str) -> Nic:
    """A NIC on a managed network, as its driver takes it."""
    facts = plug.state.facts
    return Nic(
        instance_id=plug.instance.id,
        instance_name=hostname,
        device=plug.name,
        interface=facts.get(NAME, plug.name),
        network=network,
        mac=facts[HWADDR],
        host_link=host_link(plug, names),
        ipv4=facts.get(IPV4),
        ipv6=facts.get(IPV6),
        mtu=int(facts.get(MTU, "1500")),
        configure=not plug.instance.start.system,
    )


def tap_of(nic: Nic) -> TapNic:
    """A NIC as a guest with taps knows it."""
    return TapNic(nic.host_link, nic.mac, nic.interface, nic.mtu)


def _senders6(plug: Plug) -> tuple[str, ...]:
    """None at all where the NIC shall have no IPv6; else its address, and the one that follows from the MAC."""
    from isola.devices.filters import link_local

    if plug.config.get("ipv6.address") == NONE:
        return ()
    return (link_local(plug.state.facts[HWADDR]), *_listed(plug.state.facts.get(IPV6)))


def _listed(value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",")) if value else ()
