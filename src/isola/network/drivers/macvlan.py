"""Networks of a link of the host: NICs are macvlans, with addresses that the daemon chooses in that link's network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import cast

from isola.errors import InvalidInput, IsolaError, Unsupported
from isola.host import Host
from isola.host.link_kinds import Inside, Macvlan
from isola.model.network import Endpoint, HostTap, Lease, Network, Nic
from isola.model.probe import Probe
from isola.network import values
from isola.network.addresses import AddressPlan, Span, choose_ipv4, choose_ipv6, metric, subnets
from isola.network.driver import NetworkCapabilities, NetworkDriver
from isola.network.views import describe
from isola.settings import Setting, Settings, boolean, one_of, text, whole

_MODES = ("bridge", "private", "vepa", "passthru")

SETTINGS = Settings(
    "network",
    Setting("parent", values.link, "The link of the host on whose network the NICs are; required."),
    Setting("mode", one_of(*_MODES), "Whether NICs on the same parent reach each other (`bridge`) or not.", "bridge"),
    Setting("mtu", whole(1280, 65535), "MTU of NICs; by default that of the parent."),
    *(
        row
        for v, shortest, longest, example in ((4, 8, 30, "192.0.2.1/24"), (6, 16, 126, "2001:db8::1/64"))
        for row in (
            Setting(
                f"ipv{v}.address",
                values.gateway(v, shortest, longest),
                f"The router's IPv{v} address with the prefix, such as {example}: addresses of NICs are chosen in its "
                "subnet. `none`: they get theirs from the parent's network; `auto`: a free subnet is chosen once.",
                "none",
                live=True,
            ),
            Setting(
                f"ipv{v}.dhcp.ranges",
                values.ranges(v),
                "FIRST-LAST ranges from which addresses of NICs are chosen; the whole subnet when not set.",
                live=True,
            ),
            Setting(f"ipv{v}.routing", boolean, "Whether the router is the default one of NICs.", "true", live=True),
        )
    ),
    Setting("user.*", text, "User-defined, not interpreted."),
)


@dataclass(frozen=True, slots=True)
class _Family:
    own: IPv4Interface | IPv6Interface | None
    ranges: tuple[Span, ...]
    routing: bool

    @classmethod
    def read(cls, config: Mapping[str, str], version: int) -> _Family:
        def value(key: str) -> object:
            return SETTINGS.value(config, f"ipv{version}.{key}")

        found = cls(
            cast(IPv4Interface | IPv6Interface | None, value("address")),
            cast(tuple[Span, ...] | None, value("dhcp.ranges")) or (),
            bool(value("routing")),
        )
        for first, last in found.ranges:
            if found.own is None or not int(found.own.network[0]) <= first <= last <= int(found.own.network[-1]):
                raise InvalidInput(
                    f"A range of ipv{version}.dhcp.ranges is outside the network's subnet",
                    field=f"config.ipv{version}.dhcp.ranges",
                    remedy=f"use addresses of {found.own.network}" if found.own else "set the address first",
                )
        return found


class MacvlanNetworks(NetworkDriver):
    """Nothing on the host but the links of NICs, inside their namespaces. The host itself cannot reach them."""

    capabilities = NetworkCapabilities(ports=False)
    settings = SETTINGS
    of_host = frozenset({"parent", "mode"})

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """The kernel says only in use whether it has macvlan."""
        try:
            output = (await host.processes.run(["ip", "-V"])).stdout.decode(errors="replace")
        except IsolaError as error:
            return Probe(False, reason=error.message, remedy=error.remedy or "install iproute2")
        found = re.search(r"iproute2-([0-9][0-9.]*)", output)
        return Probe(True, version=f"iproute2 {found[1]}" if found else "iproute2")

    async def complete(
        self, config: Mapping[str, str], others: Sequence[Network], previous: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Random subnets for ``auto``. Raises InvalidInput (no such parent, a subnet that another network has)."""
        SETTINGS.validate(config)
        found = {key: value for key, value in config.items() if value != ""}
        before = previous or {}
        await self._check_parent(found.get("parent", ""), before.get("parent", ""))
        taken = {other.name: subnets(_addresses(other.config)) for other in others}
        avoid = [*subnets(await self.host.links.routes()), *(subnet for each in taken.values() for subnet in each)]
        seed = int(self.host.clock.token(8), 16)
        for key, choose in (("ipv4.address", choose_ipv4), ("ipv6.address", choose_ipv6)):
            if found.get(key) == "auto":
                former = before.get(key, "none")
                found[key] = str(choose(avoid, seed)) if former == "none" else former
            elif found.get(key, "none") != before.get(key, "none"):
                _refuse_overlap(key, found.get(key, "none"), taken)
        for version in (4, 6):
            _Family.read(found, version)
        return found

    async def _check_parent(self, parent: str, before: str) -> None:
        if not parent:
            raise InvalidInput(
                "A macvlan network needs a parent", field="config.parent", remedy="name a link of the host"
            )
        if parent != before and not await self.host.links.exists(parent):
            raise InvalidInput(
                f"The host has no link {parent!r}", field="config.parent", remedy="name one of its links, such as eth0"
            )

    def plan(self, network: Network) -> AddressPlan:
        """From the configuration."""
        ipv4, ipv6 = (_Family.read(network.config, version) for version in (4, 6))
        own4, own6 = cast(IPv4Interface | None, ipv4.own), cast(IPv6Interface | None, ipv6.own)
        spans = ipv4.ranges
        if own4 is not None and not spans:
            spans = ((int(own4.network.network_address) + 1, int(own4.network.broadcast_address) - 1),)
        return AddressPlan(own4, spans, own6, slaac=False)

    def inside(self, network: Network, nic: Nic) -> Inside:
        """Addresses, and the router's as default routes."""
        plan, gateways = self.plan(network), []
        for version, address in ((4, nic.ipv4), (6, nic.ipv6)):
            family = _Family.read(network.config, version)
            if address and family.own is not None and family.routing:
                gateways.append(str(family.own.ip))
        number = re.search(r"[0-9]{1,3}$", nic.interface)
        addresses = (*plan.prefixed(nic), *nic.link_local)
        return Inside(addresses, tuple(gateways), metric=metric(nic.priority, int(number[0] if number else 0)))

    async def _start(self, network: Network, nics: Sequence[Nic]) -> None:
        """The parent is the host's own, and may come later."""

    async def _stop(self, network: Network) -> None:
        """The parent stays."""

    async def _register(self, network: Network, nic: Nic) -> None:
        """There is no server of the daemon's on this network."""

    async def _unregister(self, network: Network, nic: Nic) -> None:
        """The same."""

    async def _attach(self, network: Network, nic: Nic, endpoint: Endpoint) -> None:
        if isinstance(endpoint, HostTap):
            raise Unsupported(
                "A macvlan ends in a network namespace, which a guest with its own kernel does not have",
                remedy="use a network of type bridge, or a container",
            )
        mtu = network.config.get("mtu")
        mode = network.config.get("mode") or _MODES[0]
        link = Macvlan(network.config["parent"], nic.interface, nic.mac, int(mtu) if mtu else None, mode, nic.queue)
        await self.host.links.create_macvlan(
            link, endpoint.path, self.inside(network, nic) if nic.configure else Inside()
        )

    async def _detach(self, network: Network, nic: Nic) -> None:
        """The link is inside, and goes with the namespace; its device removes it from one that stays."""

    async def leases(self, network: Network) -> Sequence[Lease]:
        """None: what serves addresses there is unknown."""
        return ()

    async def state(self, network: Network) -> Mapping[str, object]:
        """Of the parent."""
        return describe(network.config["parent"], await self.host.links.all())

    async def clean(self, networks: Sequence[Network], host_links: Sequence[str]) -> None:
        """There is nothing of the daemon's on the host."""


def _addresses(config: Mapping[str, str]) -> list[str]:
    found = (config.get(f"ipv{version}.address", "") for version in (4, 6))
    return [address for address in found if "/" in address]


def _refuse_overlap(key: str, text: str, taken: Mapping[str, Sequence[object]]) -> None:
    wanted = subnets([text] if "/" in text else [])
    for name, theirs in taken.items():
        for own in wanted:
            if any(own.version == other.version and own.overlaps(other) for other in theirs):  # type: ignore[attr-defined,arg-type]
                raise InvalidInput(
                    f"Subnet {own} overlaps that of network {name!r}",
                    field=f"config.{key}",
                    remedy="use another subnet, or auto",
                )


DRIVER = MacvlanNetworks
