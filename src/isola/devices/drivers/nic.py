"""NICs: ports of a managed network or of a bridge of the host's, macvlan, pairs, and addresses that are routed."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import ClassVar

from isola.devices import values
from isola.devices.driver import DeviceDriver, Plug, Stage, Target
from isola.devices.filters import bridge_table, routed_table
from isola.devices.nics import (
    HOST_NAME,
    HWADDR,
    IPV4,
    IPV6,
    MTU,
    NAME,
    NETWORK,
    NONE,
    Behaviour,
    addresses,
    filter_of,
    host_link,
    kind,
    network_name,
    routed_filter_of,
    tap_of,
)
from isola.errors import AlreadyExists, InvalidInput, NotFound, Unsupported
from isola.host.links import Inside, Macvlan, Pair, Routing
from isola.model.device import DeviceState
from isola.model.network import HostTap, Network, Nic
from isola.model.reference import Ref
from isola.network import NetworkDriver
from isola.operations import Operation
from isola.settings import Setting, Settings, boolean, one_of, whole

_GATEWAYS = {4: "169.254.0.1", 6: "fe80::1"}
"""The host's end of a NIC that is routed to, where nothing else is said."""
_MADE = "link"
"""What the note calls the link that was made under a chosen name."""
_COMMON = ("nictype", "parent", "name", "hwaddr", "mtu")
_LIMITS = ("limits.ingress", "limits.egress", "limits.max")
_ROUTES = ("ipv4.routes", "ipv6.routes")
_FAMILIES = ("ipv4.address", "ipv6.address")
_KEYS = {
    "bridged": (
        *_COMMON, *_LIMITS, *_FAMILIES, "network", "host_name", "security.mac_filtering", "security.ipv4_filtering",
        "security.ipv6_filtering", "security.port_isolation",
    ),
    "macvlan": _COMMON,
    "p2p": (*_COMMON, *_LIMITS, *_ROUTES, "host_name"),
    "routed": (
        *_COMMON, *_LIMITS, *_ROUTES, *_FAMILIES, "host_name", "ipv4.host_address", "ipv6.host_address", "ipv4.gateway",
        "ipv6.gateway",
    ),
}  # fmt: skip
"""Which keys each type of NIC takes."""
LIVE = frozenset(
    (
        *_LIMITS,
        "security.mac_filtering",
        "security.ipv4_filtering",
        "security.ipv6_filtering",
        "security.port_isolation",
    )
)
"""Keys that change without unplugging it."""


class NicDevice(DeviceDriver):
    """A link inside, and what is on the host for it: its peer, a table of the packet filter, its rate, routes."""

    stage = Stage.NETWORK
    example: ClassVar[Mapping[str, str]] = {"nictype": "p2p", "name": "eth9"}
    settings = Settings(
        "nic",
        Setting("nictype", one_of(*_KEYS), "How it is connected.", "bridged"),
        Setting("network", values.link, "The managed network it is a port of."),
        Setting(
            "parent", values.link, "A bridge of the host's (`bridged`), or the link below it (`macvlan`, `routed`)."
        ),
        Setting("name", values.interface, "Its name inside; else that of the device."),
        Setting("hwaddr", values.mac, "Its MAC address; made up once when not set."),
        Setting("mtu", whole(1280, 65535), "Largest packet; that of the network when not set."),
        Setting("host_name", values.link, "Name of the host's end; made up when not set."),
        Setting(
            "ipv4.address",
            values.address(4, several=True),
            "Its fixed IPv4 address, or `none`; chosen once when not set. Of a routed one several, with commas.",
        ),
        Setting(
            "ipv6.address",
            values.address(6, several=True),
            "Its fixed IPv6 address, or `none`; follows from the MAC when not set. Of a routed one several.",
        ),
        Setting("security.mac_filtering", boolean, "Drop what it sends under another MAC address.", "false", live=True),
        Setting("security.ipv4_filtering", boolean, "The same of IPv4 addresses, ARP and DHCP.", "false", live=True),
        Setting(
            "security.ipv6_filtering",
            boolean,
            "The same of IPv6 addresses, neighbour discovery, router advertisements and DHCPv6.",
            "false",
            live=True,
        ),
        Setting("security.port_isolation", boolean, "No frames to and from isolated neighbours.", "false", live=True),
        Setting(
            "limits.ingress", values.rate, "Most that comes to the instance, in bits a second: 100Mbit.", live=True
        ),
        Setting("limits.egress", values.rate, "Most that comes from the instance, in bits a second.", live=True),
        Setting("limits.max", values.rate, "Both at once.", live=True),
        Setting("ipv4.routes", values.routes(4), "IPv4 subnets the host reaches through it."),
        Setting("ipv6.routes", values.routes(6), "IPv6 subnets the host reaches through it."),
        Setting("ipv4.host_address", values.address(4), "The host's end of a routed one.", _GATEWAYS[4]),
        Setting("ipv6.host_address", values.address6_any, "The host's end of a routed one.", _GATEWAYS[6]),
        Setting("ipv4.gateway", one_of("auto", "none"), "Whether a default IPv4 route is made inside.", "auto"),
        Setting("ipv6.gateway", one_of("auto", "none"), "Whether a default IPv6 route is made inside.", "auto"),
    )

    @classmethod
    def check(cls, where: str, config: Mapping[str, str]) -> None:
        """Each type has keys of its own."""
        if "vlan" in config:
            raise Unsupported("VLANs are not offered", field=f"{where}.vlan", remedy="use a network for each")
        if config.get("network") and (config.get("nictype") or config.get("parent")):
            other = "nictype" if config.get("nictype", "bridged") != "bridged" else "parent"
            if config.get("parent") or other == "nictype":
                raise InvalidInput(
                    "A NIC names its network or a link of the host, not both",
                    field=f"{where}.{other}",
                    remedy="leave one of them out",
                )
        if kind(config) == "bridged" and not network_name(config):
            raise InvalidInput("A NIC needs a network", field=f"{where}.network", remedy="name a managed network")
        if kind(config) == "macvlan" and not config.get("parent"):
            raise InvalidInput("A macvlan needs a parent", field=f"{where}.parent", remedy="name a link of the host")
        for key in config:
            if key not in _KEYS[kind(config)]:
                raise InvalidInput(
                    f"A NIC of type {kind(config)} has no key {key!r}",
                    field=f"{where}.{key}",
                    remedy=f"it may have {', '.join(sorted(_KEYS[kind(config)]))}",
                )
        for version in (4, 6):
            if kind(config) == "bridged" and "," in config.get(f"ipv{version}.address", ""):
                raise InvalidInput(
                    f"A port of a network has one IPv{version} address",
                    field=f"{where}.ipv{version}.address",
                    remedy="use nictype routed for several",
                )

    @classmethod
    def network(cls, config: Mapping[str, str]) -> str | None:
        """As it is named; whether a parent is one is seen when it is connected."""
        return config.get("network")

    @classmethod
    def place(cls, name: str, config: Mapping[str, str]) -> str | None:
        """Its name inside."""
        return f"interface {config.get('name') or name}"

    async def require(self, plug: Plug) -> None:
        """Its network or parent is there, and its name on the host free."""
        config = plug.config
        network = self._network(plug)
        parent = config.get("parent")
        if network is None and parent and not await self.host.links.exists(parent):
            raise NotFound(
                f"Neither a network nor a link of the host is called {parent!r}"
                if kind(config) == "bridged"
                else f"The host has no link {parent!r}",
                field=f"{plug.field}.parent",
                remedy="name one that is there",
            )
        behaviour = Behaviour.read(config)
        if network is None and (behaviour.ipv4_filtering or behaviour.ipv6_filtering):
            self._require_address(plug, behaviour)
        name = config.get(HOST_NAME)
        others = [other for other in self.parts.others() if other.config.get(HOST_NAME) == name]
        if name and any((other.instance.id, other.name) != (plug.instance.id, plug.name) for other in others):
            raise self._taken(plug, f"Another NIC has the host name {name!r}")
        if name:
            await self._require_free(plug, name)

    async def choose(self, op: Operation, plug: Plug, known: DeviceState | None) -> DeviceState:
        """Its MAC address and, on a network, its addresses."""
        held = known.facts if known is not None and known.kind == "nic" else {}
        mac = (plug.config.get("hwaddr") or held.get(HWADDR) or self._new_mac()).lower()
        facts = {HWADDR: mac, NAME: plug.config.get("name") or plug.name}
        network = self._network(plug)
        if network is None:
            facts |= {f"ipv{v}": ",".join(addresses(plug.config, v)) for v in (4, 6)}
            facts[MTU] = plug.config.get("mtu") or ""
        else:
            facts |= await self._allocated(op, plug, network, mac, held)
        return DeviceState("nic", plug.config, {key: value for key, value in facts.items() if value})

    def stands_for(self, plug: Plug, state: DeviceState) -> bool:
        """Isola 0.1 recorded no configuration: what it chose tells."""
        if state.config:
            return state.config == plug.config
        config, facts = plug.config, state.facts
        return (
            network_name(config) == facts.get(NETWORK)
            and config.get("name", plug.name) == facts.get(NAME, plug.name)
            and config.get("hwaddr", facts.get(HWADDR, "")).lower() == facts.get(HWADDR)
            and _same(config.get("ipv4.address"), facts.get(IPV4))
            and _same(config.get("ipv6.address"), facts.get(IPV6))
        )

    def shares(self, state: DeviceState, other: DeviceState) -> bool:
        """A network holds addresses by MAC address."""
        return all(state.facts.get(fact) == other.facts.get(fact) for fact in (NETWORK, HWADDR))

    def forget(self, plug: Plug) -> None:
        """Its addresses are free."""
        if NETWORK in plug.state.facts:
            key = self.parts.network_ref(plug.instance.project, plug.state.facts[NETWORK])
            self.parts.networks.release(key, plug.state.facts[HWADDR])

    async def update(self, op: Operation, old: Plug, new: Plug, target: Target) -> None:
        """Filters, isolation and rates change under it."""
        same = {key: value for key, value in old.config.items() if key not in LIVE}
        if same != {key: value for key, value in new.config.items() if key not in LIVE} or (
            old.state.facts != new.state.facts
        ):
            await super().update(op, old, new, target)
            return

        async def behave(plug: Plug) -> None:
            await self._filter(plug, again=True)
            await self._behave(plug, again=True)

        await op.effect(f"change device {new.name}", lambda: behave(new), undo=lambda: behave(old))

    async def _register(self, plug: Plug) -> None:
        if (on := self._on(plug)) is not None:
            driver, network, nic = on
            await driver.enroll(network, nic)

    async def _unregister(self, plug: Plug) -> None:
        if (on := self._on(plug)) is not None:
            driver, network, nic = on
            await driver.strike_off(network, nic)

    async def _attach(self, plug: Plug, target: Target) -> None:
        if name := plug.config.get(HOST_NAME):
            await self._require_free(plug, name)
            await self.notes.write(plug.instance.id, plug.name, {_MADE: name})
        # First of all what keeps it from sending anything else: no frame comes before its rules.
        await self._filter(plug)
        if (on := self._on(plug)) is not None:
            driver, network, nic = on
            await driver.connect(network, nic, target.endpoint)
            if isinstance(target.endpoint, HostTap) and target.running is not None:
                await target.running.plug(tap_of(nic))
        else:
            await self._connect(plug, target)
        await self._behave(plug)

    async def _detach(self, plug: Plug, target: Target | None) -> None:
        if not await self._is_ours(plug):
            await self._drop_filters(plug)
            return
        if target is not None and target.running is not None:
            await target.running.unplug(self._link(plug))
        if kind(plug.config) == "macvlan":
            if target is not None:
                await self.host.links.delete_inside(plug.state.facts[NAME], target.network)
            return
        await self.host.links.delete(self._link(plug))
        if kind(plug.config) == "routed" and plug.config.get("parent"):
            await self.host.links.unproxy(self._routing(plug))
        await self._drop_filters(plug)
        if plug.config.get(HOST_NAME):
            await self.notes.forget(plug.instance.id, plug.name)

    async def _attached(self, plug: Plug, target: Target) -> bool:
        return (
            kind(plug.config) != "macvlan"
            and await self._is_ours(plug)
            and await self.host.links.exists(self._link(plug))
        )

    async def _require_free(self, plug: Plug, name: str) -> None:
        """Its link is not there yet, or is its own: one of the host's is never taken for it, nor deleted."""
        if name.startswith(self.parts.names.short):
            raise self._taken(plug, f"The host name {name!r} begins as those that are made up")
        if not await self._is_ours(plug) and await self.host.links.exists(name):
            raise self._taken(plug, f"The host has a link named {name!r} already")

    async def _is_ours(self, plug: Plug) -> bool:
        """Whether its link was made for it: one whose name was chosen is noted before it is made."""
        name = plug.config.get(HOST_NAME)
        return not name or (await self.notes.read(plug.instance.id, plug.name)).get(_MADE) == name

    def _taken(self, plug: Plug, message: str) -> AlreadyExists:
        return AlreadyExists(message, field=f"{plug.field}.host_name", remedy="choose another")

    async def _connect(self, plug: Plug, target: Target) -> None:
        """To what is no network of ours."""
        config, facts, type_ = plug.config, plug.state.facts, kind(plug.config)
        inside = None if plug.instance.start.system else Inside()
        mtu = int(facts[MTU]) if facts.get(MTU) else None
        if type_ == "macvlan":
            link = Macvlan(config["parent"], facts[NAME], facts[HWADDR], mtu)
            await self.host.links.create_macvlan(link, target.network, inside)
            return
        if type_ == "routed":
            inside = self._routed_inside(plug)
        bridge = config["parent"] if type_ == "bridged" else ""
        pair = Pair(self._link(plug), facts[NAME], bridge, facts[HWADDR], mtu or 1500)
        await self.host.links.connect(pair, target.network, inside)
        if type_ in ("p2p", "routed") and (type_ == "routed" or any(config.get(key) for key in _ROUTES)):
            await self.host.links.route(pair.host, self._routing(plug))

    async def _behave(self, plug: Plug, *, again: bool = False) -> None:
        """Isolation and rate of the host's end; with ``again`` also where there is nothing to set."""
        behaviour, link = Behaviour.read(plug.config), self._link(plug)
        if behaviour.isolated or (again and kind(plug.config) == "bridged"):
            await self.host.links.isolate(link, isolated=behaviour.isolated)
        if behaviour.ingress is not None or again:
            await self.host.links.shape(link, behaviour.ingress)

    async def _filter(self, plug: Plug, *, again: bool = False) -> None:
        """Rules for what it sends; with ``again`` in place of those that may be there."""
        names, table = self.parts.names, self.parts.names.device_table(plug.instance.id, plug.name)
        if kind(plug.config) == "bridged":
            wanted, family = filter_of(plug, names), "bridge"
            body = "" if wanted.empty else bridge_table(wanted)
        elif kind(plug.config) in ("p2p", "routed"):
            wanted, family = routed_filter_of(plug, names), "inet"
            body = "" if wanted.empty else routed_table(wanted)
        else:
            return
        if body:
            await self.host.firewall.apply(table, body, family)
        elif again:
            await self.host.firewall.delete(table, family)

    async def _drop_filters(self, plug: Plug) -> None:
        family = "bridge" if kind(plug.config) == "bridged" else "inet"
        if Behaviour.read(plug.config) != _FREE or kind(plug.config) == "routed":
            await self.host.firewall.delete(self.parts.names.device_table(plug.instance.id, plug.name), family)

    async def _allocated(
        self, op: Operation, plug: Plug, network: Network, mac: str, held: Mapping[str, str]
    ) -> dict[str, str]:
        """Addresses on a network: those it has, where they fit what is configured; new ones go back in a rollback."""
        same = held.get(NETWORK) == network.name and held.get(HWADDR) == mac
        wanted = {v: plug.config.get(f"ipv{v}.address") or None for v in (4, 6)}
        before = {v: held.get(f"ipv{v}") if same else None for v in (4, 6)}
        key = self.parts.network_ref(plug.instance.project, network.name)
        if same and all(wanted[v] in (None, before[v]) for v in (4, 6)):
            ipv4, ipv6 = before[4], before[6]
        else:
            asked = {v: None if wanted[v] == NONE else wanted[v] or before[v] for v in (4, 6)}
            op.on_rollback(f"give back addresses of {plug.name}", lambda: self._give_back(plug, key, mac, held))
            ipv4, ipv6 = await self.parts.networks.allocate(key, mac, ipv4=asked[4], ipv6=asked[6])
        return {
            NETWORK: network.name,
            MTU: plug.config.get("mtu") or network.config.get("bridge.mtu") or "1500",
            IPV4: "" if wanted[4] == NONE else ipv4 or "",
            IPV6: "" if wanted[6] == NONE else ipv6 or "",
        }

    async def _give_back(self, plug: Plug, key: Ref, mac: str, held: Mapping[str, str]) -> None:
        self.parts.networks.release(key, mac)
        if HWADDR in held and NETWORK in held:
            before = self.parts.network_ref(plug.instance.project, held[NETWORK])
            await self.parts.networks.allocate(before, held[HWADDR], ipv4=held.get(IPV4), ipv6=held.get(IPV6))

    def _network(self, plug: Plug) -> Network | None:
        """The managed network it is configured for; None: there is none of this name, or it needs none."""
        name = network_name(plug.config) or ("" if plug.config else plug.state.facts.get(NETWORK, ""))
        return self.parts.networks.find(self.parts.network_ref(plug.instance.project, name)) if name else None

    def _on(self, plug: Plug) -> tuple[NetworkDriver, Network, Nic] | None:
        """The network it has been given addresses of; None where it is on none, or that is gone."""
        if NETWORK not in plug.state.facts:
            return None
        key = self.parts.network_ref(plug.instance.project, plug.state.facts[NETWORK])
        network = self.parts.networks.find(key)
        return None if network is None else (self.parts.networks.driver(key), network, self.parts.nic(plug))

    def _link(self, plug: Plug) -> str:
        return host_link(plug, self.parts.names)

    def _routing(self, plug: Plug) -> Routing:
        config = plug.config
        subnets = [route.strip() for key in _ROUTES for route in config.get(key, "").split(",") if route.strip()]
        if kind(config) != "routed":
            return Routing(subnets=tuple(subnets))
        own = [(each, v) for v in (4, 6) for each in addresses(config, v)]
        ends = {v: config.get(f"ipv{v}.host_address") or _GATEWAYS[v] for v in (4, 6)}
        return Routing(
            addresses=tuple(f"{ends[v]}/{32 if v == 4 else 128}" for v in (4, 6) if addresses(config, v)),
            subnets=(*(f"{each}/{32 if v == 4 else 128}" for each, v in own), *subnets),
            proxied=tuple(each for each, _ in own) if config.get("parent") else (),
            parent=config.get("parent", ""),
        )

    def _routed_inside(self, plug: Plug) -> Inside:
        config = plug.config
        families = [v for v in (4, 6) if addresses(config, v)]
        gateways = [config.get(f"ipv{v}.host_address") or _GATEWAYS[v] for v in families if _leads(config, v)]
        own = tuple(f"{each}/{32 if v == 4 else 128}" for v in families for each in addresses(config, v))
        return Inside(own, tuple(gateways), onlink=True)

    def _require_address(self, plug: Plug, behaviour: Behaviour) -> None:
        """On an unmanaged bridge the addresses are not known: filtering needs them in the configuration."""
        for version, wanted in ((4, behaviour.ipv4_filtering), (6, behaviour.ipv6_filtering)):
            if wanted and not plug.config.get(f"ipv{version}.address"):
                raise InvalidInput(
                    f"To filter by IPv{version} address on {plug.config.get('parent')} takes one",
                    field=f"{plug.field}.ipv{version}.address",
                    remedy="set it, or none",
                )

    def _new_mac(self) -> str:
        tail = self.host.clock.token(3)
        return f"0a:69:73:{tail[0:2]}:{tail[2:4]}:{tail[4:6]}"


_FREE = Behaviour(False, False, False, False, None, None)


def _same(wanted: str | None, held: str | None) -> bool:
    if not wanted:
        return True
    return held is None if wanted == NONE else held is not None and ip_address(wanted) == ip_address(held)


def _leads(config: Mapping[str, str], version: int) -> bool:
    return config.get(f"ipv{version}.gateway", "auto") != NONE


DRIVER = NicDevice
