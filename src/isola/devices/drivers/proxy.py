"""Proxies: forward connections from addresses of the host into the instance, and the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar

from isola.devices import values
from isola.devices.companions import Forwarders
from isola.devices.driver import DeviceDriver, Parts, Plug, Stage, Target
from isola.devices.endpoints import Endpoint, parse
from isola.errors import InvalidInput
from isola.host.forwarder import NOBODY, Side, Spec
from isola.settings import Setting, Settings, boolean, one_of, whole

_INSIDE = ("instance", "guest", "container")
_ADDRESS = "tcp:ADDRESS:PORT, udp:ADDRESS:PORT or unix:PATH, with ports such as 80,8000-8010"


def _endpoint(value: str) -> Endpoint:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{_ADDRESS} is expected{f': {error}' if str(error) else ''}") from error


class Proxy(DeviceDriver):
    """A separate process for each proxy, which keeps running when the daemon ends; with ``nat``, firewall rules."""

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
            "Rewrite addresses by nftables instead of forwarding; preserves the client's address.",
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

    @classmethod
    def check(cls, where: str, config: Mapping[str, str]) -> None:
        """Both sides are configured and compatible."""
        for key in ("listen", "connect"):
            if not config.get(key):
                raise InvalidInput("A proxy needs listen and connect", field=f"{where}.{key}", remedy=_ADDRESS)
        listen, connect = parse(config["listen"]), parse(config["connect"])
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
        if _true(config, "nat"):
            _check_nat(where, config, listen, connect)

    @classmethod
    def place(cls, name: str, config: Mapping[str, str]) -> str | None:
        """Its listening address, which must be unique among the instance's devices."""
        return f"{'host' if _on_host(config) else 'instance'} {config['listen']}"

    def _require(self, plug: Plug, target: Target) -> None:
        if not _true(plug.config, "nat"):
            _ = target.network

    async def _attach(self, plug: Plug, target: Target) -> None:
        if _true(plug.config, "nat"):
            await self.host.firewall.apply(self._table(plug), nat_rules(plug.config))
            return
        spec = _spec(plug, target)
        rooted = spec.listen.rooted or spec.connect.rooted
        await self._forwarders.start(plug, spec, target.guest.root if rooted else None)

    async def _detach(self, plug: Plug, target: Target | None) -> None:
        if _true(plug.config, "nat"):
            await self.host.firewall.delete(self._table(plug))
            return
        await self._forwarders.stop(plug)

    async def _attached(self, plug: Plug, target: Target) -> bool:
        if _true(plug.config, "nat"):
            return self._table(plug) in await self.host.firewall.tables(self._table(plug))
        return await self._forwarders.runs(plug)

    async def resume(self, plug: Plug, target: Target) -> None:
        """Adopt its process, or restart it."""
        if not _true(plug.config, "nat") or not await self._attached(plug, target):
            await self._attach(plug, target)

    async def close(self) -> None:
        """The processes keep running."""
        self._forwarders.leave()

    def _table(self, plug: Plug) -> str:
        return self.parts.names.device_table(plug.instance.id, plug.name)


def nat_rules(config: Mapping[str, str]) -> str:
    """The firewall table that redirects packets to the host's ports into the instance. Pure.

    It also covers packets from the host itself, and from the instance to itself by the host's address.
    """
    listen, connect = parse(config["listen"]), parse(config["connect"])
    family = "ip6" if ":" in connect.host else "ip"
    wild = ip_address(listen.host).is_unspecified
    to = "fib daddr type local" if wild else f"{family} daddr {listen.host}"
    shown = f"[{connect.host}]" if family == "ip6" else connect.host
    ports = connect.ports if len(connect.ports) > 1 else connect.ports * len(listen.ports)
    version = "meta nfproto ipv6" if family == "ip6" else "meta nfproto ipv4"
    rules = [
        f"{version} {to} {listen.protocol} dport {port} dnat {family} to {shown}:{other}"
        for port, other in zip(listen.ports, ports, strict=True)
    ]
    back = f"{family} saddr {connect.host} {family} daddr {connect.host} ct status dnat masquerade"
    return "\n".join(
        (
            "chain prerouting {\n  type nat hook prerouting priority dstnat; policy accept;",
            *(f"  {rule}" for rule in rules),
            "}\nchain output {\n  type nat hook output priority -100; policy accept;",
            *(f"  {rule}" for rule in rules),
            "}\nchain postrouting {\n  type nat hook postrouting priority srcnat; policy accept;",
            f"  {back}",
            "}",
        )
    )


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
    if target is None:
        return Side(endpoint.protocol, endpoint.host, endpoint.ports)
    rooted = endpoint.protocol == "unix" and not endpoint.host.startswith("@")
    return Side(endpoint.protocol, endpoint.host, endpoint.ports, network=str(target.network), rooted=rooted)


def _on_host(config: Mapping[str, str]) -> bool:
    return config.get("bind", "host") not in _INSIDE


def _true(config: Mapping[str, str], key: str) -> bool:
    return boolean(config.get(key) or "false")


def _check_nat(where: str, config: Mapping[str, str], listen: Endpoint, connect: Endpoint) -> None:
    if not _on_host(config):
        raise InvalidInput("nat works on the host's side only", field=f"{where}.bind", remedy="use bind=host")
    if "unix" in (listen.protocol, connect.protocol) or listen.protocol != connect.protocol:
        raise InvalidInput("nat needs tcp or udp on both sides", field=f"{where}.nat", remedy="leave nat out")
    if _true(config, "proxy_protocol"):
        raise InvalidInput(
            "nat cannot use the PROXY protocol, and preserves the client's address anyway",
            field=f"{where}.proxy_protocol",
            remedy="leave one of them out",
        )
    here, there = ip_address(listen.host), ip_address(connect.host)
    if here.version != there.version:
        raise InvalidInput(
            "nat cannot change the IP version", field=f"{where}.connect", remedy="use the same on both sides"
        )
    if _nowhere(there):
        raise InvalidInput(
            "nat needs the instance's own address", field=f"{where}.connect", remedy="use an address of one of its NICs"
        )


def _nowhere(address: IPv4Address | IPv6Address) -> bool:
    return address.is_unspecified or address.is_loopback or address.is_multicast


DRIVER = Proxy
