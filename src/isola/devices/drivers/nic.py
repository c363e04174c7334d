"""NICs: ports of managed networks or of bridges of the host, macvlan, p2p, and routed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import ClassVar

from isola.devices import values
from isola.devices.addresses import RELEASED, allocated
from isola.devices.driver import DeviceDriver, Plug, Stage, Target
from isola.devices.filters import bridge_table, forwarded_table, routed_table
from isola.devices.nic_routes import KEYS, all_subnets, routes_of, subnets
from isola.devices.nic_settings import BOOT, GATEWAYS, LIVE, SETTINGS, SYSCTLS, check
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
    queue_of,
    routed_filter_of,
    tap_of,
)
from isola.errors import AlreadyExists, HostFailure, InvalidInput, IsolaError, NotFound, Unsupported
from isola.host.link_kinds import Inside, Macvlan, Pair, Routing, Tap
from isola.host.static_routes import Route
from isola.model.device import DeviceState
from isola.model.instance import Desired
from isola.model.network import HostTap, Network, NetworkNamespace, Nic
from isola.network import NetworkDriver
from isola.operations import Operation
from isola.runtimes import Capability, TapNic
from isola.settings import boolean

log = logging.getLogger(__name__)
_ISOLATION = "security.port_isolation"
"""Key of NICs, and of networks for all of theirs."""
_MADE = "link"
"""Key in the note of a link that was created under a configured name."""


class NicDevice(DeviceDriver):
    """A link inside, and on the host its peer, a firewall table, a rate limit and routes."""

    stage = Stage.NETWORK
    example: ClassVar[Mapping[str, str]] = {"nictype": "p2p", "name": "eth9"}
    settings = SETTINGS

    @classmethod
    def check(cls, where: str, config: Mapping[str, str]) -> None:
        """Each type has different keys."""
        check(where, config)

    @classmethod
    def network(cls, config: Mapping[str, str]) -> str | None:
        """As named in the configuration; whether a parent is a managed network is determined when it is connected."""
        return config.get("network")

    @classmethod
    def place(cls, name: str, config: Mapping[str, str]) -> str | None:
        """Its name inside."""
        return f"interface {config.get('name') or name}"

    @classmethod
    def single(cls, config: Mapping[str, str]) -> str:
        """Configured addresses and names on the host."""
        found = {
            "MAC address": config.get("hwaddr"),
            "name on the host": config.get(HOST_NAME),
            "address": ", ".join(each for v in (4, 6) for each in addresses(config, v)),
            "route": ", ".join(all_subnets(config)),
        }
        return next((f"the {what} {value}" for what, value in found.items() if value), "")

    async def require(self, plug: Plug) -> None:
        """Its network or parent exists, and its name on the host is free."""
        config = plug.config
        network = self._network(plug)
        parent = config.get("parent")
        if network is None and parent and not await self.host.links.exists(parent):
            raise NotFound(
                f"Neither a network nor a link of the host is called {parent!r}"
                if kind(config) == "bridged"
                else f"The host has no link {parent!r}",
                field=f"{plug.field}.parent",
                remedy="use an existing one",
            )
        behaviour = Behaviour.read(config)
        if network is not None:
            self._require_port(plug, network, behaviour)
        if network is None and (behaviour.ipv4_filtering or behaviour.ipv6_filtering):
            self._require_address(plug, behaviour)
        self._require_routes(plug)
        if name := config.get(HOST_NAME):
            others = [other for other in self.parts.others() if other.config.get(HOST_NAME) == name]
            if any((other.instance.id, other.name) != (plug.instance.id, plug.name) for other in others):
                raise self._taken(plug, f"Another NIC has the name on the host {name!r}")
            await self._require_free(plug, name)

    def _require_port(self, plug: Plug, network: Network, behaviour: Behaviour) -> None:
        """Where a NIC has no end on the host, nothing can be done to that."""
        key = self.parts.network_ref(plug.instance.project, network.name)
        capabilities = self.parts.networks.driver(key).capabilities
        if not capabilities.nics:
            raise InvalidInput(
                f"Network {network.name!r} holds settings for other networks: no NIC can be on it",
                field=f"{plug.field}.network",
                remedy="use a network that was created from it",
            )
        if capabilities.ports:
            return
        if behaviour != _FREE or plug.config.get(HOST_NAME) or all_subnets(plug.config):
            raise InvalidInput(
                f"NICs on network {network.name!r} have no end on the host that could be filtered, limited or named",
                field=plug.field,
                remedy="leave out limits.*, security.*, ipv4.routes, ipv6.routes and host_name",
            )

    def _require_routes(self, plug: Plug) -> None:
        """A network routes what it has addresses of; no other NIC that is in use has the same routes."""
        if (network := self._network(plug)) is not None:
            own = self.parts.networks.gateways(self.parts.network_ref(plug.instance.project, network.name))
            for version in (4, 6):
                if subnets(plug.config, version) and not any((":" in each) == (version == 6) for each in own):
                    raise InvalidInput(
                        f"Network {network.name!r} has no IPv{version} address: nothing is routed to its NICs",
                        field=f"{plug.field}.{KEYS[version]}",
                        remedy=f"set ipv{version}.address of the network",
                    )
        wanted = set(all_subnets(plug.config))
        for other in self.parts.others() if wanted else ():
            if other.instance.id == plug.instance.id and other.name == plug.name:
                continue
            if other.instance.desired is Desired.RUNNING and (both := wanted & set(all_subnets(other.config))):
                raise AlreadyExists(
                    f"Subnet {min(both)} is routed to another NIC already",
                    evidence=f"{other.name} of {other.instance.name}",
                    field=plug.field,
                    remedy="route it to one of them",
                )

    async def choose(
        self, op: Operation, plug: Plug, known: DeviceState | None, *, starting: bool = False
    ) -> DeviceState:
        """Its MAC address and, on a managed network, its IP addresses: one for IPv4 only for a run, or if fixed."""
        known = known if known is not None and known.kind == "nic" else None
        held = known.facts if known is not None else {}
        mac = (plug.config.get("hwaddr") or held.get(HWADDR) or self._new_mac()).lower()
        facts = {HWADDR: mac, NAME: plug.config.get("name") or plug.name}
        network = self._network(plug)
        if network is None:
            facts |= {f"ipv{v}": ",".join(addresses(plug.config, v)) for v in (4, 6)}
            facts[MTU] = plug.config.get("mtu") or ""
        else:
            facts |= await allocated(self.parts, op, plug, network.name, mac=mac, known=known, starting=starting)
            facts[MTU] = (
                plug.config.get("mtu") or network.config.get("bridge.mtu") or network.config.get("mtu") or "1500"
            )
        return DeviceState("nic", plug.config, {key: value for key, value in facts.items() if value})

    def stands_for(self, plug: Plug, state: DeviceState) -> bool:
        """Isola 0.1 recorded no configuration: compare the recorded facts instead."""
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
        """Networks assign addresses by MAC address."""
        return all(state.facts.get(fact) == other.facts.get(fact) for fact in (NETWORK, HWADDR))

    def forget(self, plug: Plug) -> None:
        """Releases its addresses."""
        if NETWORK in plug.state.facts:
            key = self.parts.network_ref(plug.instance.project, plug.state.facts[NETWORK])
            self.parts.networks.release(key, plug.state.facts[HWADDR])

    def rest(self, plug: Plug) -> None:
        """An IPv4 address that is not configured is free for others; the facts say which it was."""
        if NETWORK in plug.state.facts and not plug.config.get("ipv4.address"):
            key = self.parts.network_ref(plug.instance.project, plug.state.facts[NETWORK])
            self.parts.networks.rest(key, plug.state.facts[HWADDR])

    def forgotten(self, state: DeviceState) -> DeviceState:
        """It has no address of its network any more, but may get the same one again."""
        facts = {RELEASED if key == NETWORK else key: value for key, value in state.facts.items()}
        return DeviceState(state.kind, state.config, facts)

    async def update(self, op: Operation, old: Plug, new: Plug, target: Target) -> None:
        """Changes filters, isolation and rates without detaching it."""
        if _fixed(old.config) != _fixed(new.config) or old.state.facts != new.state.facts:
            await super().update(op, old, new, target)
            return

        async def behave(before: Plug, plug: Plug) -> None:
            await self._filter(plug, again=True)
            await self._behave(plug, again=True)
            await self._reroute(before, plug)

        await op.effect(f"change device {new.name}", lambda: behave(old, new), undo=lambda: behave(new, old))

    async def _reroute(self, old: Plug, new: Plug) -> None:
        before, after = self._routes(old), self._routes(new)
        if before == after:
            return
        if self._on(new) is not None:
            await self._enroll(new)  # its network lets pass what is routed
        elif kind(new.config) != "bridged":
            await self.host.links.route(self._link(new), self._routing(new))
        await self.host.links.remove_routes([each for each in before if each not in after])
        await self._add_routes(new)

    async def _register(self, plug: Plug) -> None:
        """Only while its instance runs: before that it has no IPv4 address, and is not to be called."""
        if plug.instance.desired is Desired.RUNNING:
            await self._enroll(plug)

    async def _unregister(self, plug: Plug) -> None:
        if (on := self._on(plug)) is not None:
            driver, network, nic = on
            # Another instance may have the address that this one had.
            found = nic if plug.instance.desired is Desired.RUNNING else replace(nic, ipv4=None)
            await driver.strike_off(network, found)

    async def _enroll(self, plug: Plug) -> None:
        if (on := self._on(plug)) is not None:
            driver, network, nic = on
            await driver.enroll(network, nic)

    def tap(self, plug: Plug) -> TapNic:
        """With the configuration that a container of the same image gets from the host."""
        if (on := self._on(plug)) is not None:
            driver, network, nic = on
            found = tap_of(nic, driver.inside(network, nic))
        else:
            facts, link = plug.state.facts, self._link(plug)
            found = TapNic(link, facts[HWADDR], facts[NAME], int(facts.get(MTU) or "1500"), self._inside(plug))
        return replace(found, boot=int(plug.config.get(BOOT) or "0"))

    def _is_macvlan(self, plug: Plug) -> bool:
        """Also one of a network whose NICs have no ends on the host."""
        on = self._on(plug)
        return kind(plug.config) == "macvlan" if on is None else not on[0].capabilities.ports

    def _require(self, plug: Plug, target: Target) -> None:
        if plug.config.get(SYSCTLS):
            target.capabilities.require(Capability.SYSCTLS)
            if isinstance(target.ends, HostTap):
                raise Unsupported(
                    "The kernel of the guest has its own parameters of its interfaces",
                    field=f"{plug.field}.{SYSCTLS}",
                    remedy="set linux.sysctl.net.* of the instance, with the name of the interface",
                )
        if plug.config.get(BOOT, "0") not in ("", "0"):
            target.capabilities.require(Capability.FIRMWARE)
        if target.running is not None and not (target.running.plan is not None and target.running.plan.host_stack):
            target.capabilities.require(Capability.PLUGGED_NICS)
        if isinstance(target.ends, HostTap) and self._is_macvlan(plug):
            raise Unsupported(
                "A macvlan ends in a network namespace, which a guest with its own kernel does not have",
                remedy="use nictype bridged with a network or a bridge of the host, or a container",
            )

    async def _attach(self, plug: Plug, target: Target) -> None:
        if name := plug.config.get(HOST_NAME):
            await self._require_free(plug, name)
            await self.notes.write(plug.instance.id, plug.name, {_MADE: name})
        # The filter comes first, so that no frame can be sent before its rules exist.
        await self._filter(plug)
        await self._enroll(plug)
        if (on := self._on(plug)) is not None:
            driver, network, nic = on
            await driver.connect(network, nic, target.ends)
            await self._share_names(plug, driver)
        else:
            await self._connect(plug, target)
        await self._set_parameters(plug, target)
        if isinstance(target.endpoint, HostTap) and target.running is not None:
            await target.running.plug(self.tap(plug))
        await self._behave(plug)
        await self._add_routes(plug)

    async def _set_parameters(self, plug: Plug, target: Target) -> None:
        if SYSCTLS not in plug.config or not isinstance(target.ends, NetworkNamespace):
            return
        name = plug.state.facts.get(NAME, plug.name)
        found = values.interface_sysctls(plug.config[SYSCTLS])
        wanted = {key.replace("IFNAME", name): value for key, value in found.items()}
        try:
            await self.host.namespaces.set_parameters(target.ends.path, wanted)
        except (NotFound, HostFailure) as error:
            field = f"{plug.field}.{SYSCTLS}"
            raise InvalidInput(error.message, field=field, evidence=error.evidence, remedy="unset it") from error

    async def _add_routes(self, plug: Plug) -> None:
        try:
            await self.host.links.add_routes(self._routes(plug))
        except AlreadyExists as error:
            error.field = plug.field
            raise

    async def resume(self, plug: Plug, target: Target) -> None:
        """Its networks' names, if they are served by a process of the instance's own, and routes over a new bridge."""
        try:
            await self._add_routes(plug)
        except IsolaError as error:
            log.warning("Subnets are not routed to %s of %s: %s", plug.name, plug.instance.name, error)
        if (on := self._on(plug)) is not None:
            await self._share_names(plug, on[0])

    async def _share_names(self, plug: Plug, driver: NetworkDriver, *, but: str = "") -> None:
        """With all NICs that the instance has, but the one of a name. Systems have name servers of their own."""
        if plug.instance.start.system:
            return
        found = [
            self._on(Plug(plug.instance, name, state))
            for name, state in sorted(plug.instance.plugged.items())
            if state.kind == "nic" and name != but
        ]
        nics = [(on[1], on[2]) for on in found if on is not None and on[0] is driver]
        await driver.share_names(plug.instance.id, nics)

    async def _detach(self, plug: Plug, target: Target | None) -> None:
        await self._disconnect(plug, target)
        await self._unregister(plug)

    async def _disconnect(self, plug: Plug, target: Target | None) -> None:
        if (on := self._on(plug)) is not None:
            if target is None:
                await on[0].share_names(plug.instance.id, ())
            else:
                await self._share_names(plug, on[0], but=plug.name)
        if not await self._is_ours(plug):
            await self._drop_filters(plug)
            return
        await self.host.links.remove_routes(self._routes(plug))
        if target is not None and target.running is not None:
            await target.running.unplug(self._link(plug))
        if self._is_macvlan(plug):
            if target is not None and not isinstance(target.endpoint, HostTap):
                await self.host.links.delete_inside(plug.state.facts[NAME], target.network)
            return
        # A namespace is removed before the devices of an instance that has ended; a tap does not depend on one.
        if target is None and plug.instance.ephemeral and not plug.config.get(HOST_NAME):
            self.host.links.delete_vanishing(self._link(plug))  # no other will have its name
        else:
            await self.host.links.delete(self._link(plug), vanishing=target is None)
        if kind(plug.config) == "routed" and plug.config.get("parent"):
            await self.host.links.unproxy(self._routing(plug))
        await self._drop_filters(plug)
        if plug.config.get(HOST_NAME):
            await self.notes.forget(plug.instance.id, plug.name)

    async def _attached(self, plug: Plug, target: Target) -> bool:
        return (
            not self._is_macvlan(plug) and await self._is_ours(plug) and await self.host.links.exists(self._link(plug))
        )

    async def _require_free(self, plug: Plug, name: str) -> None:
        """Its link does not exist yet, or is its own: other links of the host are neither used nor deleted."""
        if name.startswith(self.parts.names.short):
            raise self._taken(plug, f"The host name {name!r} has the prefix of generated names")
        if not await self._is_ours(plug) and await self.host.links.exists(name):
            raise self._taken(plug, f"The host has a link named {name!r} already")

    async def _is_ours(self, plug: Plug) -> bool:
        """Whether its link was created for it: a configured name is recorded in the note before the link is created."""
        name = plug.config.get(HOST_NAME)
        return not name or (await self.notes.read(plug.instance.id, plug.name)).get(_MADE) == name

    def _taken(self, plug: Plug, message: str) -> AlreadyExists:
        return AlreadyExists(message, field=f"{plug.field}.host_name", remedy="choose another")

    async def _connect(self, plug: Plug, target: Target) -> None:
        """Connect it to an unmanaged link."""
        config, facts, type_ = plug.config, plug.state.facts, kind(plug.config)
        # Brought up at least, as LXC does it: small systems expect that.
        inside, link, mtu = (
            self._inside(plug) or Inside(),
            self._link(plug),
            int(facts[MTU]) if facts.get(MTU) else None,
        )
        if type_ == "macvlan":
            made = Macvlan(config["parent"], facts[NAME], facts[HWADDR], mtu, queue=queue_of(config))
            await self.host.links.create_macvlan(made, target.network, inside)
            return
        bridge = config["parent"] if type_ == "bridged" else ""
        if isinstance(target.endpoint, HostTap):
            await self.host.links.create_tap(Tap(link, bridge, target.endpoint.owner, mtu or 1500, queue_of(config)))
        else:
            pair = Pair(link, facts[NAME], bridge, facts[HWADDR], mtu or 1500, queue=queue_of(config))
            await self.host.links.connect(pair, target.network, inside)
        if type_ in ("p2p", "routed") and (type_ == "routed" or all_subnets(config)):
            await self.host.links.route(link, self._routing(plug))

    async def _behave(self, plug: Plug, *, again: bool = False) -> None:
        """Set isolation and rate of the host's end; with ``again`` also to reset them."""
        if self._is_macvlan(plug):
            return
        behaviour, link, network = Behaviour.read(plug.config), self._link(plug), self._network(plug)
        isolated = behaviour.isolated or (network is not None and boolean(network.config.get(_ISOLATION) or "false"))
        if isolated or (again and kind(plug.config) == "bridged"):
            await self.host.links.isolate(link, isolated=isolated)
        if behaviour.ingress is not None or again:
            await self.host.links.shape(link, behaviour.ingress)

    async def _filter(self, plug: Plug, *, again: bool = False) -> None:
        """Set the filter rules; with ``again`` replace existing ones."""
        if self._is_macvlan(plug):
            return
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
        if family == "bridge" and wanted.priority is not None:
            body = forwarded_table(self._way(plug), plug.state.facts[HWADDR], wanted.priority)
            await self.host.firewall.apply(table, body)
        elif family == "bridge" and again:
            await self.host.firewall.delete(table)

    async def _drop_filters(self, plug: Plug) -> None:
        family = "bridge" if kind(plug.config) == "bridged" else "inet"
        if Behaviour.read(plug.config) != _FREE or kind(plug.config) == "routed":
            await self.host.firewall.delete(self.parts.names.device_table(plug.instance.id, plug.name), family)
        if family == "bridge" and Behaviour.read(plug.config).priority is not None:
            await self.host.firewall.delete(self.parts.names.device_table(plug.instance.id, plug.name))

    def _network(self, plug: Plug) -> Network | None:
        """The managed network of its configuration; None if there is no such network, or its type needs none."""
        name = network_name(plug.config) or ("" if plug.config else plug.state.facts.get(NETWORK, ""))
        return self.parts.networks.find(self.parts.network_ref(plug.instance.project, name)) if name else None

    def _on(self, plug: Plug) -> tuple[NetworkDriver, Network, Nic] | None:
        """The network from which it has addresses; None if it has none, or the network was deleted."""
        if NETWORK not in plug.state.facts:
            return None
        key = self.parts.network_ref(plug.instance.project, plug.state.facts[NETWORK])
        network = self.parts.networks.find(key)
        return None if network is None else (self.parts.networks.driver(key), network, self.parts.nic(plug))

    def _link(self, plug: Plug) -> str:
        return host_link(plug, self.parts.names)

    def _way(self, plug: Plug) -> str:
        """The link by which the host reaches it; empty if that is gone."""
        if kind(plug.config) != "bridged":
            return self._link(plug)
        on = self._on(plug)
        return (plug.config.get("parent") if on is None else on[0].link(on[1])) or ""

    def _routes(self, plug: Plug) -> tuple[Route, ...]:
        if not all_subnets(plug.config) or not (way := self._way(plug)):
            return ()
        return routes_of(plug, way, shared=kind(plug.config) == "bridged")

    def _routing(self, plug: Plug) -> Routing:
        config = plug.config
        if kind(config) != "routed":
            return Routing()
        own = [(each, v) for v in (4, 6) for each in addresses(config, v)]
        ends = {v: config.get(f"ipv{v}.host_address") or GATEWAYS[v] for v in (4, 6)}
        return Routing(
            addresses=tuple(f"{ends[v]}/{32 if v == 4 else 128}" for v in (4, 6) if addresses(config, v)),
            subnets=tuple(f"{each}/{32 if v == 4 else 128}" for each, v in own),
            proxied=tuple(each for each, _ in own) if config.get("parent") else (),
            parent=config.get("parent", ""),
        )

    def _inside(self, plug: Plug) -> Inside | None:
        """What the host configures inside; of a routed NIC even where the image has network set-up of its own."""
        config = plug.config
        if kind(config) != "routed":
            return None if plug.instance.start.system else Inside()
        families = [v for v in (4, 6) if addresses(config, v)]
        gateways = [config.get(f"ipv{v}.host_address") or GATEWAYS[v] for v in families if _leads(config, v)]
        own = tuple(f"{each}/{32 if v == 4 else 128}" for v in families for each in addresses(config, v))
        return Inside(own, tuple(gateways), onlink=True)

    def _require_address(self, plug: Plug, behaviour: Behaviour) -> None:
        """Filters on an unmanaged bridge require configured addresses, because the daemon does not assign them."""
        for version, wanted in ((4, behaviour.ipv4_filtering), (6, behaviour.ipv6_filtering)):
            if wanted and not plug.config.get(f"ipv{version}.address"):
                raise InvalidInput(
                    f"Filtering by IPv{version} address on {plug.config.get('parent')} requires a configured address",
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


def _fixed(config: Mapping[str, str]) -> dict[str, str]:
    """Keys that cannot be changed without detaching the NIC."""
    return {key: value for key, value in config.items() if key not in LIVE and not key.startswith("user.")}
