"""NICs of instances: their parsed configuration, and the values that network drivers need. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from isola.devices import values
from isola.devices.driver import Plug
from isola.devices.filters import Filter
from isola.devices.nic_routes import all_subnets, subnets
from isola.host.link_kinds import Inside
from isola.model.device import DeviceState
from isola.model.identity import HostNames
from isola.model.instance import Instance
from isola.model.network import Nic
from isola.model.reference import Ref
from isola.runtimes import TapNic
from isola.settings import boolean

NONE = "none"
"""Value of an address key: no address of this family."""
HWADDR, NETWORK, NAME, MTU, IPV4, IPV6, HOST_NAME = "hwaddr", "network", "name", "mtu", "ipv4", "ipv6", "host_name"
"""Keys of recorded facts of a NIC."""
_SHORT_ID = 12
"""Digits of an instance's id that are a name of it."""
Config = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Settings that can be changed while the NIC stays connected."""

    mac_filtering: bool
    ipv4_filtering: bool
    ipv6_filtering: bool
    isolated: bool
    ingress: int | None
    """Bits per second to the instance."""
    egress: int | None
    """Bits per second from the instance."""
    priority: int | None = None
    """Of packets from the instance in queues of the host."""

    @classmethod
    def read(cls, config: Config) -> Behaviour:
        """Filtering by IP address includes filtering by MAC address."""

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
            priority=int(config["limits.priority"]) if config.get("limits.priority") else None,
        )


def kind(config: Config) -> str:
    """The ``nictype``; ``bridged`` by default."""
    return config.get("nictype") or "bridged"


def network_name(config: Config) -> str:
    """The managed network that a NIC names directly or as its parent; empty if its type has none."""
    if kind(config) != "bridged":
        return ""
    return config.get("network") or config.get("parent") or ""


def host_link(plug: Plug, names: HostNames) -> str:
    """Name of the host's end."""
    return plug.config.get(HOST_NAME) or names.veth(plug.instance.id, plug.name)


def filter_of(plug: Plug, names: HostNames) -> Filter:
    """The filter of a port of a bridge."""
    behaviour, facts = Behaviour.read(plug.config), plug.state.facts
    return Filter(
        link=host_link(plug, names),
        mac=facts[HWADDR] if behaviour.mac_filtering else None,
        ipv4=(*_listed(facts.get(IPV4)), *subnets(plug.config, 4)) if behaviour.ipv4_filtering else None,
        ipv6=_senders6(plug) if behaviour.ipv6_filtering else None,
        subnets6=subnets(plug.config, 6),
        rate=behaviour.egress,
        priority=behaviour.priority,
    )


def routed_filter_of(plug: Plug, names: HostNames) -> Filter:
    """The filter of a routed NIC, which may always use its own addresses and subnets only; of others, no filter."""
    config, own = plug.config, kind(plug.config) == "routed"
    rate, priority = Behaviour.read(config).egress, Behaviour.read(config).priority
    if not own:
        return Filter(link=host_link(plug, names), rate=rate, priority=priority)
    ipv4, ipv6 = addresses(config, 4), addresses(config, 6)
    return Filter(
        link=host_link(plug, names),
        ipv4=(*ipv4, *subnets(config, 4)),
        ipv6=(*ipv6, *subnets(config, 6)),
        rate=rate,
        priority=priority,
    )


def addresses(config: Config, version: int) -> tuple[str, ...]:
    """The configured addresses of a routed NIC."""
    value = config.get(f"ipv{version}.address")
    return () if value in (None, "", NONE) else _listed(value)


def nic_of(plug: Plug, names: HostNames, network: Ref, hostname: str) -> Nic:
    """A NIC on a managed network, as its network driver expects it."""
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
        names=_names(plug),
        priority=int(plug.config.get("gateway.priority") or "0"),
        link_local=values.link_local_addresses(plug.config["link_local.addresses"])
        if plug.config.get("link_local.addresses")
        else (),
        routes=all_subnets(plug.config),
        queue=queue_of(plug.config),
    )


def queue_of(config: Config) -> int | None:
    """The length of its queues."""
    return int(config["queue.tx.length"]) if config.get("queue.tx.length") else None


def _names(plug: Plug) -> tuple[str, ...]:
    """Further names in DNS: configured ones, and of an application container those by which others may call it."""
    instance, aliases = plug.instance, plug.config.get("dns.aliases")
    found = values.host_names(aliases) if aliases else ()
    own = () if instance.start.system else (instance.name, instance.id[:_SHORT_ID])
    if instance.aside:
        return own  # the others are those of the version that serves
    return tuple(dict.fromkeys((*own, *found, *_called(instance, own))))


def _called(instance: Instance, own: Sequence[str]) -> tuple[str, ...]:
    """The host name that an application container is given."""
    name = instance.config.get("isola.hostname", "") if own else ""
    return (name,) if values.is_host_name(name) else ()


def tap_of(nic: Nic, inside: Inside | None) -> TapNic:
    """The NIC for a guest with taps."""
    return TapNic(nic.host_link, nic.mac, nic.interface, nic.mtu, inside if nic.configure else None)


def _senders6(plug: Plug) -> tuple[str, ...]:
    """Empty if the NIC has no IPv6; otherwise its address, and the one derived from the MAC address."""
    from isola.devices.filters import link_local

    if plug.config.get("ipv6.address") == NONE:
        return ()
    return (link_local(plug.state.facts[HWADDR]), *_listed(plug.state.facts.get(IPV6)))


def _listed(value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",")) if value else ()


def networks_of(instance: Instance) -> tuple[str, ...]:
    """The managed networks that it is on, the one by which it reaches others first."""
    nics = [(name, state) for name, state in instance.plugged.items() if state.kind == "nic" and NETWORK in state.facts]

    def rank(nic: tuple[str, DeviceState]) -> tuple[int, str]:
        name, state = nic
        return -int(state.config.get("gateway.priority") or "0"), state.facts.get(NAME, name)

    return tuple(dict.fromkeys(state.facts[NETWORK] for _, state in sorted(nics, key=rank)))


def own_addresses(instance: Instance, leads_out: Callable[[str], bool]) -> tuple[str, str]:
    """Its IPv4 and IPv6 address on the first network that leads out, else on the first; empty without one."""
    names = sorted(networks_of(instance), key=lambda name: not leads_out(name))
    nics = [
        state.facts
        for name in names
        for state in instance.plugged.values()
        if state.kind == "nic" and state.facts.get(NETWORK) == name
    ]
    found = (next((facts[key] for facts in nics if facts.get(key)), "") for key in (IPV4, IPV6))
    ipv4, ipv6 = found
    return ipv4, ipv6
