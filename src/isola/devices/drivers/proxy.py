"""Proxies: forward connections from addresses of the host into the instance, and the reverse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import ClassVar

from isola.devices import values
from isola.devices.companions import Forwarders
from isola.devices.driver import DeviceDriver, Parts, Plug, Stage, Target
from isola.devices.endpoints import Endpoint, parse
from isola.devices.nics import networks_of, own_addresses
from isola.devices.ports import Ports
from isola.devices.publishing import IPV4, IPV6, PORTS
from isola.errors import HostFailure, InvalidInput, Unsupported
from isola.host.forwarder import NOBODY, Side, Spec
from isola.model.device import DeviceState
from isola.model.network import HostTap, Network
from isola.operations import Operation
from isola.runtimes import Capability
from isola.settings import Setting, Settings, boolean, one_of, whole

_ATTEMPTS = 16
"""How many ports of the kernel's choice are looked at."""
_INSIDE = ("instance", "guest", "container")
_ADDRESS = "tcp:ADDRESS:PORT, udp:ADDRESS:PORT, sctp:ADDRESS:PORT or unix:PATH, with ports such as 80,8000-8010"


def _endpoint(value: str) -> Endpoint:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{_ADDRESS} is expected{f': {error}' if str(error) else ''}") from error


class Proxy(DeviceDriver):
    """A separate process for each proxy, with ``nat`` one for all, and rules; it keeps running when the daemon ends."""

    stage = Stage.PROGRAM
    example: ClassVar[Mapping[str, str]] = {"listen": "tcp:127.0.0.1:18080", "connect": "tcp:127.0.0.1:80"}
    settings = Settings(
        "proxy",
        Setting("listen", _endpoint, f"Address on which it listens: {_ADDRESS}."),
        Setting(
            "connect",
            _endpoint,
            "Address to which it connects; one port for all, or one for each port on which it listens.",
        ),
        Setting("bind", one_of("host", *_INSIDE), "Which side listens: the host, or the instance.", "host"),
        Setting(
            "nat",
            boolean,
            "Rewrite addresses in the kernel, which preserves the client's address; an unspecified address in "
            "`connect` is the instance's own, and port 0 in `listen` is chosen once.",
            "false",
        ),
        Setting("proxy_protocol", boolean, "Send the client's address to the server by the PROXY protocol.", "false"),
        Setting("uid", whole(0, 65535), "Owner of the listening Unix socket.", "0"),
        Setting("gid", whole(0, 65535), "Group of the listening Unix socket.", "0"),
        Setting("mode", values.mode, "Permission bits of the listening Unix socket, in octal.", "0644"),
        Setting(
            "security.uid",
            whole(0, 4_294_967_294),
            "User of the host as which it runs, without capabilities; by default root for Unix sockets, else `nobody`.",
        ),
        Setting("security.gid", whole(0, 4_294_967_294), "Group of the host as which it runs."),
    )

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._forwarders = Forwarders(parts.host, self.notes)
        self._ports = Ports(parts)

    @classmethod
    def check(cls, where: str, config: Mapping[str, str]) -> None:
        """Both sides are configured and compatible."""
        for key in ("listen", "connect"):
            if not config.get(key):
                raise InvalidInput("A proxy needs listen and connect", field=f"{where}.{key}", remedy=_ADDRESS)
        listen, connect = parse(config["listen"]), parse(config["connect"])
        if "sctp" in (listen.protocol, connect.protocol) and not _true(config, "nat"):
            raise InvalidInput(
                "SCTP is forwarded by the kernel only", field=f"{where}.nat", remedy="set nat=true, on both sides sctp"
            )
        if (listen.protocol == "udp") != (connect.protocol == "udp"):
            raise InvalidInput(
                "Datagrams cannot be forwarded to a stream socket, nor the reverse",
                field=f"{where}.connect",
                remedy="use udp on both sides, or tcp and unix",
            )
        if len(connect.ports) > 1 and len(connect.ports) != len(listen.ports):
            raise InvalidInput(
                f"{len(listen.ports)} listening ports cannot be forwarded to {len(connect.ports)}",
                field=f"{where}.connect",
                remedy="use the same number, or one for all",
            )
        if _true(config, "proxy_protocol") and connect.protocol == "udp":
            raise InvalidInput(
                "The PROXY protocol requires stream sockets", field=f"{where}.proxy_protocol", remedy="use tcp"
            )
        if listen.protocol != "unix":
            for key in ("uid", "gid", "mode"):
                if config.get(key):
                    raise InvalidInput("Only a Unix socket has an owner", field=f"{where}.{key}", remedy="leave it out")
        if 0 in connect.ports or (0 in listen.ports and not _true(config, "nat")):
            key = "connect" if 0 in connect.ports else "listen"
            raise InvalidInput("Only a proxy with nat can choose its port", field=f"{where}.{key}", remedy=_ADDRESS)
        if _true(config, "nat"):
            _check_nat(where, config, listen, connect)

    @classmethod
    def place(cls, name: str, config: Mapping[str, str]) -> str | None:
        """Its listening address, which must be unique among the instance's devices; none with a port to be chosen."""
        if parse(config["listen"]).ports == (0,):
            return None
        return f"{'host' if _on_host(config) else 'instance'} {config['listen']}"

    @classmethod
    def passed_on(cls, config: Mapping[str, str]) -> bool:
        """Those that listen on the host: an address of the host has one listener."""
        return _on_host(config)

    def _require(self, plug: Plug, target: Target) -> None:
        if _true(plug.config, "nat"):
            return
        if _is_apart(target):
            self._require_address(plug, target)
        else:
            _ = target.network

    async def choose(
        self, op: Operation, plug: Plug, known: DeviceState | None, *, starting: bool = False
    ) -> DeviceState:
        """With ``nat``: the addresses of the instance, and a port if the configured one is 0."""
        if not _true(plug.config, "nat"):
            return plug.state
        facts = dict(zip((IPV4, IPV6), own_addresses(plug.instance, self._leads_out(plug)), strict=True))
        listen = parse(plug.config["listen"])
        if listen.ports == (0,):
            held = known.facts.get(PORTS) if known is not None and known.config == plug.config else None
            facts[PORTS] = held or str(self._free_port(plug, listen))
        return plug.state.with_facts(**facts)

    async def _attach(self, plug: Plug, target: Target) -> None:
        if _true(plug.config, "nat"):
            await self._ports.publish(plug)
            return
        spec = _spec(plug, target)
        if _is_apart(target):
            connect = self._reached(plug, spec.connect)
            spec = replace(spec, connect=connect)
        rooted = spec.listen.rooted or spec.connect.rooted
        await self._forwarders.start(plug, spec, target.guest.root if rooted else None)

    def _reached(self, plug: Plug, connect: Side) -> Side:
        """From the host, by an address of the instance: its loopback cannot be reached."""
        ipv4, ipv6 = own_addresses(plug.instance, self._leads_out(plug))
        chosen = (ipv6 or ipv4) if ":" in connect.host else (ipv4 or ipv6)
        return replace(connect, host=connect.host if connect.host in (ipv4, ipv6) else chosen)

    async def _detach(self, plug: Plug, target: Target | None) -> None:
        if _true(plug.config, "nat"):
            await self._ports.unpublish(plug)
        await self._forwarders.stop(plug)

    async def _attached(self, plug: Plug, target: Target) -> bool:
        if _true(plug.config, "nat"):
            return await self._ports.published(plug)
        return await self._forwarders.runs(plug)

    async def resume(self, plug: Plug, target: Target) -> None:
        """Adopt its process, or restart it. Published ports become those of the instance that its record says."""
        if not _true(plug.config, "nat"):
            await self._attach(plug, target)
            return
        await self._ports.forget_older(plug)
        await self._forwarders.stop(plug)  # that of an earlier version, which had one for each device
        await self._ports.publish(plug)

    async def update(self, op: Operation, old: Plug, new: Plug, target: Target) -> None:
        """Published ports are changed without a moment in which those that stay are refused."""
        if not (_true(old.config, "nat") and _true(new.config, "nat")):
            await super().update(op, old, new, target)
            return
        await op.effect(
            f"change device {new.name}",
            lambda: self._ports.change(old, new),
            undo=lambda: self._ports.change(new, old),
        )

    async def hand_over(self, op: Operation, old: Plug, new: Plug, targets: tuple[Target | None, Target]) -> None:
        """New connections to published ports lead to the other instance, without a moment in which they are refused."""
        if not (_true(old.config, "nat") and _true(new.config, "nat")):
            await super().hand_over(op, old, new, targets)
            return
        await op.effect(
            f"transfer device {new.name}",
            lambda: self._ports.hand_over([old], [new]),
            undo=lambda: self._ports.hand_over([new], [old]),
        )

    async def take_back(self, plug: Plug) -> bool:
        """Published ports lead to the instance again."""
        if not _true(plug.config, "nat"):
            return False
        await self._ports.publish(plug)
        return True

    async def ended(self, instance_id: str) -> None:
        """Connections that began before another instance got its ports end with it."""
        await self._ports.ended(instance_id)

    async def close(self) -> None:
        """The processes keep running."""
        self._forwarders.leave()
        self._ports.leave()

    def _require_address(self, plug: Plug, target: Target) -> None:
        """Only the addresses of a guest with its own network stack can be reached, and nothing can listen for it."""
        connect = parse(plug.config["connect"])
        if not _on_host(plug.config) or connect.protocol == "unix":
            target.capabilities.require(Capability.SOCKETS)
            raise Unsupported("Nothing of the host can listen or connect to Unix sockets in it")
        own = own_addresses(plug.instance, self._leads_out(plug))
        address = ip_address(connect.host)
        if not (address.is_unspecified or address.is_loopback or str(address) in own):
            raise Unsupported(
                f"A guest with a kernel of its own forwards nothing to {connect.host}",
                remedy="use 0.0.0.0, which stands for its own address",
            )
        if not networks_of(plug.instance):
            raise Unsupported(
                "The instance has no address", remedy="add a NIC on a managed network, from which it gets one"
            )

    def _leads_out(self, plug: Plug) -> Callable[[str], bool]:
        """Whether a network is one that its instances reach others by."""

        def leads(name: str) -> bool:
            network = self._network(plug, name)
            return network is not None and boolean(network.config.get("ipv4.routing") or "true")

        return leads

    def _network(self, plug: Plug, name: str) -> Network | None:
        return self.parts.networks.find(self.parts.network_ref(plug.instance.project, name))

    def _free_port(self, plug: Plug, listen: Endpoint) -> int:
        """One of those that the kernel gives to listeners, and that no other proxy has."""
        taken = {
            port
            for other in self.parts.others()
            if other.state.kind == "proxy" and (other.instance.id, other.name) != (plug.instance.id, plug.name)
            for port in (*parse(other.config["listen"]).ports, int(other.state.facts.get(PORTS, 0)))
        }
        for _ in range(_ATTEMPTS):
            port = self.host.sockets.free_port(listen.host, udp=listen.protocol == "udp")
            if port not in taken:
                return port
        raise HostFailure("No port is free", remedy="name one")


def _spec(plug: Plug, target: Target) -> Spec:
    config = plug.config
    listen, connect = parse(config["listen"]), parse(config["connect"])
    on_host = _on_host(config)
    unix = "unix" in (listen.protocol, connect.protocol)
    user, group = (config.get(f"security.{key}") for key in ("uid", "gid"))
    owner = int(config.get("uid") or 0), int(config.get("gid") or 0)
    maker = (0, 0)
    if not on_host:
        outside = plug.instance.idmap.outside
        owner, maker = (outside(owner[0]), outside(owner[1])), (outside(0), outside(0))
    return Spec(
        listen=_side(listen, None if on_host else target),
        connect=_side(connect, target if on_host else None),
        proxy_protocol=_true(config, "proxy_protocol"),
        socket_owner=owner,
        socket_mode=values.mode(config.get("mode") or "0644"),
        socket_maker=maker,
        user=int(user) if user else (0 if unix else NOBODY),
        group=int(group) if group else (0 if unix else NOBODY),
    )


def _side(endpoint: Endpoint, target: Target | None) -> Side:
    if target is None or _is_apart(target):
        return Side(endpoint.protocol, endpoint.host, endpoint.ports)
    rooted = endpoint.protocol == "unix" and not endpoint.host.startswith("@")
    return Side(endpoint.protocol, endpoint.host, endpoint.ports, network=str(target.network), rooted=rooted)


def _is_apart(target: Target) -> bool:
    """Whether no socket of the host can be in its network."""
    return isinstance(target.ends, HostTap) or not target.capabilities.has(Capability.SOCKETS)


def _on_host(config: Mapping[str, str]) -> bool:
    return config.get("bind", "host") not in _INSIDE


def _true(config: Mapping[str, str], key: str) -> bool:
    return boolean(config.get(key) or "false")


def _check_nat(where: str, config: Mapping[str, str], listen: Endpoint, connect: Endpoint) -> None:
    if not _on_host(config):
        raise InvalidInput("nat works on the host's side only", field=f"{where}.bind", remedy="use bind=host")
    if "unix" in (listen.protocol, connect.protocol) or listen.protocol != connect.protocol:
        raise InvalidInput("nat needs tcp, udp or sctp on both sides", field=f"{where}.nat", remedy="leave nat out")
    if _true(config, "proxy_protocol"):
        raise InvalidInput(
            "nat cannot use the PROXY protocol, and preserves the client's address anyway",
            field=f"{where}.proxy_protocol",
            remedy="leave one of them out",
        )
    here, there = ip_address(listen.host), ip_address(connect.host)
    if here.version != there.version and not there.is_unspecified:
        raise InvalidInput(
            "nat cannot change the IP version", field=f"{where}.connect", remedy="use the same on both sides"
        )
    if there.is_loopback or there.is_multicast:
        raise InvalidInput(
            "nat needs the instance's own address",
            field=f"{where}.connect",
            remedy="use 0.0.0.0, or one of its NICs' addresses",
        )


DRIVER = Proxy
