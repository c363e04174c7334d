"""A network driver whose state is on the fake host, so that it persists when the driver object is replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from isola.host import Host
from isola.host.link_kinds import Bridge, Inside, Pair, Tap
from isola.model.identity import HostNames
from isola.model.network import Endpoint, HostTap, Lease, Network, Nic
from isola.model.probe import Probe
from isola.network import leases
from isola.network.addresses import AddressPlan, subnets
from isola.network.bridge import config as bridge
from isola.network.bridge.config import BridgeConfig, link_of
from isola.network.driver import NetworkCapabilities, NetworkDriver
from isola.network.leases import Held
from isola.network.views import addressed, describe

_LEASES = "leases"


class FakeNetwork(NetworkDriver):
    """Bridges and pairs on the fake links, tables in the fake firewall, a file per registered NIC; no dnsmasq."""

    capabilities = NetworkCapabilities(dhcp=True, dns=True, nat=True)
    settings = bridge.SETTINGS
    of_host = bridge.OF_HOST

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._started: set[str] = set()

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Works everywhere."""
        return Probe(True, version="1")

    async def complete(
        self, config: Mapping[str, str], others: Sequence[Network], previous: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """With the same defaults as real bridges."""
        return bridge.complete(
            config,
            previous or {},
            others=others,
            routed=subnets(await self.host.links.routes()),
            seed=int(self.host.clock.token(8), 16),
            has_ipv6=self.host.links.has_ipv6(),
            links=addressed(await self.host.links.all(), self.names.alias("")),
        )

    def plan(self, network: Network) -> AddressPlan:
        """From the configuration."""
        return BridgeConfig.read(network.config).plan()

    def inside(self, network: Network, nic: Nic) -> Inside:
        """Addresses and default routes."""
        plan = self.plan(network)
        return Inside((*plan.prefixed(nic), *nic.link_local), plan.gateways())

    def link(self, network: Network) -> str | None:
        """The bridge."""
        return link_of(self.names, network)

    def named(self, network: Network, attempt: int) -> Network:
        """Recorded where it is not the network's own name."""
        return bridge.named(self.names, network, attempt)

    async def _start(self, network: Network, nics: Sequence[Nic]) -> None:
        config, link = BridgeConfig.read(network.config), link_of(self.names, network)
        view, alias = await self.host.links.find(link), self.names.alias(network.name)
        if view is not None and view.alias == alias:
            await self.host.links.set_addresses(link, config.addresses(), config.mtu)
        else:
            await self.host.links.create_bridge(Bridge(link, config.addresses(), config.mtu, alias=alias))
        await self.host.links.join(link, [nic.host_link for nic in nics])
        await self.host.firewall.apply(self.names.table(network.name), f"# {link}")
        home = self._home(network.name)
        await self.host.files.make_directory(home)
        first = network.name not in self._started
        self._started.add(network.name)
        kept = {nic.host_link for nic in nics if not (first and nic.resting)}
        for name in set(await self.host.files.names(home)) - kept - {_LEASES}:
            await self.host.files.remove_tree(home / name)
        for nic in nics:
            if not nic.resting:
                await self._register(network, nic)

    async def _stop(self, network: Network) -> None:
        await self.host.files.remove_tree(self._home(network.name))
        await self.host.firewall.delete(self.names.table(network.name))
        view = await self.host.links.find(link_of(self.names, network))
        if view is not None and view.alias == self.names.alias(network.name):
            await self.host.links.delete(view.name)

    async def _register(self, network: Network, nic: Nic) -> None:
        content = f"{nic.mac} {nic.ipv4} {nic.ipv6} {nic.instance_name}"
        await self.host.files.write(self._home(network.name) / nic.host_link, content.encode(), durable=False)
        await self._end_leases(network, lambda held: held.address in (nic.ipv4, nic.ipv6) and held.mac != nic.mac)

    async def _unregister(self, network: Network, nic: Nic) -> None:
        await self.host.files.remove_tree(self._home(network.name) / nic.host_link)
        await self._end_leases(network, lambda held: held.address in (nic.ipv4, nic.ipv6) or held.mac == nic.mac)

    async def _attach(self, network: Network, nic: Nic, endpoint: Endpoint) -> None:
        link = link_of(self.names, network)
        if isinstance(endpoint, HostTap):
            await self.host.links.create_tap(Tap(nic.host_link, link, endpoint.owner, nic.mtu))
            return
        inside = self.inside(network, nic) if nic.configure else Inside()
        pair = Pair(nic.host_link, nic.interface, link, nic.mac, nic.mtu, queue=nic.queue)
        await self.host.links.connect(pair, endpoint.path, inside)

    async def _detach(self, network: Network, nic: Nic) -> None:
        await self.host.links.delete(nic.host_link)

    async def leases(self, network: Network) -> Sequence[Lease]:
        """Those made by ``lease``."""
        return [Lease(held.hostname, held.mac, held.address, "dynamic") for held in await self._held(network)]

    async def lease(self, network: Network, address: str, mac: str) -> None:
        """A DHCP client obtains an address; the lease persists when the daemon ends."""
        lines = [f"0 {one.mac} {one.address} *\n" for one in await self._held(network)] + [f"0 {mac} {address} *\n"]
        await self.host.files.write(self._home(network.name) / _LEASES, "".join(lines).encode(), durable=False)

    async def state(self, network: Network) -> Mapping[str, object]:
        """Of the bridge."""
        return describe(link_of(self.names, network), await self.host.links.all())

    async def clean(self, networks: Sequence[Network], host_links: Sequence[str]) -> None:
        """As the real one: by alias, prefix and directory."""
        kept = {network.name for network in networks}
        for name in await self.host.files.names(self.directory / "networks"):
            if name not in kept:
                await self.host.files.remove_tree(self._home(name))
        for table in await self.host.firewall.tables(self.names.table("")):
            if table not in {self.names.table(name) for name in kept}:
                await self.host.firewall.delete(table)
        bridges = {link_of(self.names, network) for network in networks}
        for view in await self.host.links.all():
            ours = view.alias.startswith(self.names.alias("")) and view.name not in bridges
            port = (
                view.kind in ("veth", "tun") and view.name.startswith(self.names.short) and view.name not in host_links
            )
            if ours or (port and len(view.name) == len(self.names.short) + 8):
                await self.host.links.delete(view.name)

    async def _held(self, network: Network) -> list[Held]:
        file = self._home(network.name) / _LEASES
        return leases.read((await self.host.files.read(file)).decode(), 0) if await self.host.files.exists(file) else []

    async def _end_leases(self, network: Network, ending: Callable[[Held], bool]) -> None:
        held = await self._held(network)
        if kept := [one for one in held if not ending(one)]:
            text = "".join(f"0 {one.mac} {one.address} *\n" for one in kept)
            await self.host.files.write(self._home(network.name) / _LEASES, text.encode(), durable=False)
        elif held:
            await self.host.files.remove_tree(self._home(network.name) / _LEASES)

    def _home(self, name: str) -> Path:
        return self.directory / "networks" / name


DRIVER = FakeNetwork
