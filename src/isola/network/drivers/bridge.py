"""Networks on a Linux bridge: own subnets, DHCP and DNS by dnsmasq, NAT and firewall by nftables."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from isola.errors import CommandFailed, HostFailure, InvalidInput, IsolaError, NotFound
from isola.host import Host
from isola.host.link_kinds import Bridge, Inside, Pair, Tap
from isola.host.link_views import LinkView
from isola.host.memory_directory import MemoryDirectory
from isola.model.identity import HostNames
from isola.model.network import Endpoint, HostTap, Lease, Network, Nic
from isola.model.probe import Probe
from isola.network import leases
from isola.network.addresses import AddressPlan, metric, subnets
from isola.network.bridge import config as bridge
from isola.network.bridge import dnsmasq, rules
from isola.network.bridge.config import BridgeConfig, link_of
from isola.network.bridge.nameserver import Nameserver
from isola.network.bridge.shared_names import SharedNames, Side
from isola.network.driver import NetworkCapabilities, NetworkDriver
from isola.network.leases import Held
from isola.network.views import addressed, describe

_LOOKS, _WRITING = 4, 0.005
"""Number and interval in seconds of attempts to read a lease file while dnsmasq may be writing it."""
_HOSTS, _NAMES = "hosts.d", "names.d"
"""Directories with a file per NIC."""
_USER = "dnsmasq"
"""Created by Debian's package dnsmasq-base."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Leased:
    """A lease file as it was last read."""

    text: str = ""
    version: Hashable | None = None
    """None if it may have changed meanwhile."""


_NOT_READ = _Leased()


class BridgeNetworks(NetworkDriver):
    """One bridge, one nftables table and one dnsmasq per network; packets pass the kernel only."""

    capabilities = NetworkCapabilities(dhcp=True, dns=True, nat=True)
    settings = bridge.SETTINGS
    of_host = bridge.OF_HOST

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._networks = directory / "networks"
        self._nameservers: dict[str, Nameserver] = {}
        self._shared = SharedNames(host, directory / "names", names)
        self._read: dict[str, tuple[Network, BridgeConfig]] = {}
        self._leased: dict[str, _Leased] = {}
        """By network."""
        self._routed: dict[str, dict[str, tuple[str, ...]]] = {}
        """By network and link: subnets behind its NICs."""
        self._rules = asyncio.Lock()

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """It needs three programs and a kernel with nftables."""
        try:
            version = (await host.processes.run(["dnsmasq", "--version"])).stdout.decode(errors="replace")
            await host.processes.run(["ip", "-V"])
            await host.firewall.tables()
        except IsolaError as error:
            remedy = "install dnsmasq-base, nftables and iproute2, and run as root"
            return Probe(False, reason=error.message, remedy=error.remedy or remedy)
        found = re.search(r"[Vv]ersion ([0-9][0-9.]*)", version)
        return Probe(True, version=f"dnsmasq {found[1]}" if found else "")

    async def complete(
        self, config: Mapping[str, str], others: Sequence[Network], previous: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Random subnets, which do not overlap routes, addresses or name servers of the host."""
        routed = subnets([*await self.host.links.routes(), *await self._resolvers()])
        completed = bridge.complete(
            config,
            previous or {},
            others=others,
            routed=routed,
            seed=int(self.host.clock.token(8), 16),
            has_ipv6=self.host.links.has_ipv6(),
            links=addressed(await self.host.links.all(), self._alias("")),
        )
        await self._test_raw(BridgeConfig.read(completed))
        return completed

    def plan(self, network: Network) -> AddressPlan:
        """From the configuration."""
        return self._config(network).plan()

    def inside(self, network: Network, nic: Nic) -> Inside:
        """Addresses, and default routes in the order of the NICs' priorities."""
        config = self._config(network)
        plan = config.plan()
        families = {":" in address for address in plan.prefixed(nic)}
        families -= {family is config.ipv6 for family in (config.ipv4, config.ipv6) if not family.routing}
        gateways = tuple(gate for gate in plan.gateways() if (":" in gate) in families)
        # As in images built by Isola: eth0 before eth1, in any order of attachment.
        number = re.search(r"[0-9]{1,3}$", nic.interface)
        addresses = (*plan.prefixed(nic), *nic.link_local)
        return Inside(addresses, gateways, metric=metric(nic.priority, int(number[0] if number else 0)))

    def link(self, network: Network) -> str | None:
        return link_of(self.names, network)

    def named(self, network: Network, attempt: int) -> Network:
        """Recorded where it is not the network's own name."""
        return bridge.named(self.names, network, attempt)

    async def _start(self, network: Network, nics: Sequence[Nic]) -> None:
        config, link = self._config(network), link_of(self.names, network)
        first = network.name not in self._nameservers
        await self._raise_bridge(network, link, config)
        await self.host.links.join(link, [nic.host_link for nic in nics])
        await self.host.links.enable_forwarding(
            link,
            ipv4=config.ipv4.own is not None and config.ipv4.routing,
            ipv6=config.ipv6.own is not None and config.ipv6.routing,
        )
        self._routed[network.name] = {nic.host_link: nic.routes for nic in nics if nic.routes}
        await self._write_rules(network)
        await self._memory(network.name).open()
        await self._write_files(network, config, nics, first=first)
        user = await self._dnsmasq_user(network)
        await self._nameserver(network.name).ensure(
            dnsmasq.configuration(link, config, self._home(network.name), user=user)
        )
        for name in (_HOSTS, _NAMES):  # where an earlier version kept them
            await self.host.files.remove_tree(self._home(network.name) / name)

    async def _stop(self, network: Network) -> None:
        config, link = self._config(network), link_of(self.names, network)
        await self._remove(network.name)
        if _ours(await self.host.links.find(link), self._alias(network.name), config):
            await self.host.links.delete(link)

    async def _write_rules(self, network: Network) -> None:
        """One after the other, so that those of the last change stay."""
        async with self._rules:
            routed = {each for routes in self._routed.get(network.name, {}).values() for each in routes}
            body = rules.render(link_of(self.names, network), self._config(network), routed)
            await self.host.firewall.apply(self.names.table(network.name), body)

    async def _let_pass(self, network: Network, link: str, routes: tuple[str, ...]) -> None:
        """What is routed to a NIC."""
        held = self._routed.setdefault(network.name, {})
        if (before := held.get(link, ())) == routes:
            return
        self._routed[network.name] = _with(held, link, routes)
        try:
            await self._write_rules(network)
        except BaseException:
            self._routed[network.name] = _with(self._routed[network.name], link, before)
            raise

    async def _register(self, network: Network, nic: Nic) -> None:
        await self._let_pass(network, nic.host_link, nic.routes)
        # dnsmasq ignores the NIC's file if the address is leased to another client.
        own = {nic.ipv4, nic.ipv6}
        await self._end_leases(network, lambda held: held.address in own and held.mac != nic.mac)
        if await self._put_files(network, self._config(network), nic):
            self._nameserver(network.name).reload()
            self._shared.reload(network.name)
        self._nameserver(network.name).hasten()

    async def _unregister(self, network: Network, nic: Nic) -> None:
        await self._let_pass(network, nic.host_link, ())
        own = {nic.ipv4, nic.ipv6}
        await self._end_leases(network, lambda held: held.address in own or held.mac == nic.mac)
        gone = {directory / nic.host_link: None for directory in self._directories(network.name)}
        if await self.host.files.refresh(gone):
            self._nameserver(network.name).reload()
            self._shared.reload(network.name)

    async def _attach(self, network: Network, nic: Nic, endpoint: Endpoint) -> None:
        link, ipv4 = link_of(self.names, network), None if nic.ipv4 is None else str(nic.ipv4)
        # Neighbours may have the address in their ARP cache with another MAC address for up to a minute.
        if not isinstance(endpoint, HostTap):
            pair = Pair(nic.host_link, nic.interface, link, nic.mac, nic.mtu, ipv4, nic.queue)
            await self.host.links.connect(pair, endpoint.path, self.inside(network, nic) if nic.configure else Inside())
            return
        await self.host.links.create_tap(Tap(nic.host_link, link, endpoint.owner, nic.mtu, nic.queue))
        if ipv4 is not None:
            with contextlib.suppress(HostFailure):
                await self.host.links.announce(link, nic.mac, ipv4)

    async def _detach(self, network: Network, nic: Nic) -> None:
        await self.host.links.delete(nic.host_link)

    async def leases(self, network: Network) -> Sequence[Lease]:
        """From dnsmasq's file."""
        held = leases.read(await self._leases(network), self.host.clock.now().timestamp())
        return [Lease(one.hostname, one.mac, one.address, "dynamic") for one in held]

    async def state(self, network: Network) -> Mapping[str, object]:
        """Of the bridge and its ports."""
        return describe(link_of(self.names, network), await self.host.links.all())

    async def clean(self, networks: Sequence[Network], host_links: Sequence[str]) -> None:
        """Own links and tables are found by the daemon's prefix, bridges by their alias, dnsmasq by its directory."""
        kept = {network.name for network in networks}
        for name in await self.host.files.names(self._networks):
            if name not in kept:
                await self._remove(name)
        for table in await self.host.firewall.tables(self.names.table("")):
            if table not in {self.names.table(name) for name in kept}:
                await self.host.firewall.delete(table)
        bridges = {link_of(self.names, network) for network in networks}
        own_port = re.compile(rf"{self.names.short}[0-9a-f]{{8}}")
        orphans = [
            view.name
            for view in await self.host.links.all()
            if (view.alias.startswith(self._alias("")) and view.name not in bridges)
            or (view.kind in ("veth", "tun") and own_port.fullmatch(view.name) and view.name not in host_links)
        ]
        await self.host.links.delete(*orphans)

    async def share_names(self, instance_id: str, nics: Sequence[tuple[Network, Nic]]) -> None:
        """By a name server of the instance's own, in place of that of one network."""
        managed = [(network, nic) for network, nic in nics if self._config(network).names == "managed"]
        if len({network.name for network, _ in managed}) < 2:
            await self._shared.end(instance_id)
            return
        sides = []
        for network, nic in managed:
            config = self._config(network)
            side = Side(
                network=network.name,
                link=link_of(self.names, network),
                addresses=tuple(address for address in (nic.ipv4, nic.ipv6) if address),
                names=self._directories(network.name)[1],
                domain=config.domain,
                forward=config.forward,
                user=await self._dnsmasq_user(network),
            )
            sides.append(side)
        await self._shared.ensure(instance_id, sides)

    async def close(self) -> None:
        """Stops supervising dnsmasq; the processes keep running."""
        self._shared.leave()
        for nameserver in self._nameservers.values():
            nameserver.leave()
        self._nameservers.clear()

    async def _raise_bridge(self, network: Network, link: str, config: BridgeConfig) -> None:
        if _ours(await self.host.links.find(link), self._alias(network.name), config):
            await self.host.links.set_addresses(link, config.addresses(), config.mtu, config.mac)
        else:
            wanted = Bridge(link, config.addresses(), config.mtu, config.mac, alias=self._alias(network.name))
            await self.host.links.create_bridge(wanted)

    async def _remove(self, name: str) -> None:
        """Remove everything except the bridge."""
        await self._nameserver(name).stop()
        del self._nameservers[name]
        self._read.pop(name, None)
        self._leased.pop(name, None)
        self._routed.pop(name, None)
        await self.host.firewall.delete(self.names.table(name))
        await self._memory(name).discard()
        await self.host.files.remove_tree(self._home(name))

    async def _write_files(self, network: Network, config: BridgeConfig, nics: Sequence[Nic], *, first: bool) -> None:
        """Write the configuration and the files of exactly these NICs; resting ones may be about to be registered,
        unless it is the ``first`` time that this daemon does so.
        """
        expected = {nic.host_link for nic in nics if not (first and nic.resting)}
        changed = False
        for directory in self._directories(network.name):
            await self.host.files.make_directory(directory, mode=0o755)
            for name in set(await self.host.files.names(directory)) - expected:
                await self.host.files.remove_tree(directory / name)
                changed = True
        for nic in nics:
            if not nic.resting:
                changed |= await self._put_files(network, config, nic)
        if changed:
            self._nameserver(network.name).reload()

    async def _put_files(self, network: Network, config: BridgeConfig, nic: Nic) -> bool:
        """Write the files of a NIC; True if an existing one was changed. dnsmasq reads new ones when closed."""
        hosts, names = (directory / nic.host_link for directory in self._directories(network.name))
        named = dnsmasq.names(nic, config.domain, network.name) if config.names == "managed" else ""
        files = {hosts: dnsmasq.reservation(nic).encode(), names: named.encode() or None}
        return await self.host.files.refresh(files, mode=0o644)

    async def _end_leases(self, network: Network, ending: Callable[[Held], bool]) -> None:
        """Send the release messages on behalf of clients, because deleted instances do not send them."""
        text = await self._leases(network)
        own, duid = self._config(network).ipv4.own, leases.server_duid(text)
        for held in filter(ending, leases.read(text, self.host.clock.now().timestamp())):
            if ":" in held.address and duid:
                await self._tell(network, leases.SERVERS6, leases.SERVER6_PORT, leases.release6(held, duid))
            elif held.mac and isinstance(own, IPv4Interface):
                await self._tell(network, str(own.ip), leases.SERVER4_PORT, leases.release4(held, own.ip))

    async def _tell(self, network: Network, address: str, port: int, message: bytes) -> None:
        try:
            await self.host.links.send(link_of(self.names, network), address, port, message)
        except HostFailure as error:
            # The lease expires later; its address is not assigned before that.
            log.warning("Cannot release a lease on network %s: %s", network.name, error)

    async def _leases(self, network: Network) -> str:
        """dnsmasq often rewrites the file in place: read it again until it is complete."""
        path = self._home(network.name) / "leases"
        version, held = self.host.files.version(path), self._leased.get(network.name, _NOT_READ)
        if version is not None and version == held.version:
            return held.text
        for _ in range(_LOOKS):
            version, text = self.host.files.version(path), await self._text(path)
            if whole := leases.is_whole(text, held.text):
                break
            await self.host.clock.sleep(_WRITING)
        self._leased[network.name] = _Leased(text, version if whole else None)
        return text

    async def _test_raw(self, config: BridgeConfig) -> None:
        """Let dnsmasq check the syntax of ``raw.dnsmasq``."""
        if not config.raw:
            return
        try:
            await self.host.processes.run(["dnsmasq", "--test", "--conf-file=-"], stdin=f"{config.raw}\n".encode())
        except CommandFailed as error:
            raise InvalidInput(
                "dnsmasq rejects raw.dnsmasq", field="config.raw.dnsmasq", evidence=error.evidence
            ) from error

    async def _dnsmasq_user(self, network: Network) -> str | None:
        """The unprivileged user, if it exists and can read the files; otherwise None."""
        test = ["test", "-r", str(self._directories(network.name)[0] / ".")]
        drop = ["setpriv", f"--reuid={_USER}", "--regid=nogroup", "--clear-groups"]
        if (await self.host.processes.run([*drop, *test], check=False)).status == 0:
            return _USER
        log.warning("dnsmasq of network %s runs as root: user %s cannot read %s", network.name, _USER, test[-1])
        return None

    async def _resolvers(self) -> list[str]:
        """Name servers of the host, which a new subnet must not contain."""
        lines = (await self._text(Path("/etc/resolv.conf"))).splitlines()
        return [line.split()[1] for line in lines if line.startswith("nameserver ") and len(line.split()) > 1]

    def _config(self, network: Network) -> BridgeConfig:
        held = self._read.get(network.name)
        if held is None or held[0] is not network:
            held = self._read[network.name] = (network, BridgeConfig.read(network.config))
        return held[1]

    def _nameserver(self, name: str) -> Nameserver:
        return self._nameservers.setdefault(name, Nameserver(self.host, self._home(name)))

    def _home(self, name: str) -> Path:
        return self._networks / name

    def _directories(self, name: str) -> tuple[Path, Path]:
        nics = self._nics(name)
        return nics / _HOSTS, nics / _NAMES

    def _nics(self, name: str) -> Path:
        return self._networks / name / dnsmasq.NICS

    def _memory(self, name: str) -> MemoryDirectory:
        return MemoryDirectory(self.host, self._nics(name), 0o755)

    def _alias(self, name: str) -> str:
        return self.names.alias(name)

    async def _text(self, path: Path) -> str:
        with contextlib.suppress(NotFound):
            return (await self.host.files.read(path)).decode(errors="replace")
        return ""


def _with(held: Mapping[str, tuple[str, ...]], link: str, routes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    rest = {other: theirs for other, theirs in held.items() if other != link}
    return rest | {link: routes} if routes else rest


def _ours(view: LinkView | None, alias: str, config: BridgeConfig) -> bool:
    """By the alias, or by the MAC address if a daemon died before it set the alias."""
    return view is not None and view.kind == "bridge" and (view.alias == alias or view.state.hwaddr == config.mac)


DRIVER = BridgeNetworks
