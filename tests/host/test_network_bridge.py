"""Bridge networks for real: DHCP, names, NAT, IPv6, and what happens when things die."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from netns import Guest, Netns, check, start

from isola.errors import HostFailure, InvalidInput
from isola.events import Events
from isola.host import Host
from isola.host.linux import linux_host
from isola.model.identity import HostNames
from isola.model.network import Network, Nic
from isola.network.drivers.bridge import BridgeNetworks
from isola.operations import Operation, Operations

NAMES = HostNames("isola-7e57")


@dataclass
class Bed:
    """A driver as a daemon would hold it."""

    host: Host
    directory: Path
    driver: BridgeNetworks
    netns: Netns
    nics: list[Nic] = field(default_factory=list)

    async def act(self, work: Callable[[Operation], Awaitable[object]]) -> None:
        """Run ``work(op)`` as an operation."""
        operations = Operations(Events(self.host.clock.now), now=self.host.clock.now, new_id=self.host.clock.uuid)
        await operations.finish(operations.start("test", work))

    async def network(self, **config: str) -> Network:
        """A completed network, up."""
        completed = await self.driver.complete({key.replace("_", "."): value for key, value in config.items()}, ())
        network = Network("lab", config=completed)
        await self.act(lambda op: self.driver.start(op, network, ()))
        return network

    async def nic(
        self, network: Network, name: str, *, configure: bool = False, mac: str = "", ipv4: str = ""
    ) -> tuple[Nic, Guest]:
        """A registered NIC attached to a guest."""
        serial = len(self.nics) + 1
        plan = self.driver.plan(network)
        assert plan.ipv4 is not None and plan.ipv6 is not None
        nic = Nic(
            instance_id=f"id-{name}",
            instance_name=name,
            device="eth0",
            interface="eth0",
            network=network.name,
            mac=mac or f"0a:69:73:00:00:{serial:02x}",
            host_link=NAMES.veth(f"id-{name}", "eth0"),
            ipv4=ipv4 or str(plan.ipv4.ip + 10 + serial),
            ipv6=f"{str(plan.ipv6.network).removesuffix('::/64')}:869:73ff:fe00:{serial:x}",
            configure=configure,
        )
        guest = self.netns.guest()
        self.nics.append(nic)
        await self.act(lambda op: self.driver.register(op, network, nic))
        await self.act(lambda op: self.driver.attach(op, network, nic, guest.ref))
        return nic, guest

    async def gone(self, network: Network) -> None:
        """Take its NICs away, stop it, and see that nothing is left."""
        for nic in self.nics:
            await self.act(lambda op, nic=nic: self.driver.detach(op, network, nic))
            await self.act(lambda op, nic=nic: self.driver.unregister(op, network, nic))
        await self.act(lambda op: self.driver.stop(op, network))
        assert await self.host.links.names(NAMES.short) == ()
        assert await self.host.firewall.tables() == ()
        assert os.listdir(self.directory / "networks") == []


@pytest.fixture
def directory() -> Iterator[Path]:
    """Below a path that dnsmasq's own user may walk."""
    path = Path(tempfile.mkdtemp(prefix="isola-network-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def bed(netns: Netns, directory: Path) -> AsyncIterator[Bed]:
    """A driver in a network namespace of its own."""
    host = linux_host()
    driver = BridgeNetworks(host, directory, NAMES)
    yield Bed(host, directory, driver, netns)
    await driver.close()


async def lease(guest: Guest, directory: Path, hostname: str = "x") -> dict[str, str]:
    """What busybox' DHCP client is given, configured on the guest's eth0."""
    script = directory / "udhcpc.sh"
    route = '[ -z "$router" ] || ip route add default via $router'
    script.write_text(f'#!/bin/sh\n[ "$1" = bound ] || exit 0\nip addr add $ip/$mask dev eth0\n{route}\nset\n')
    script.chmod(0o755)
    await guest.check("ip", "link", "set", "lo", "up")
    await guest.check("ip", "link", "set", "eth0", "up")
    output = await guest.check(
        *("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1"),
        *("-O", "search", "-x", f"hostname:{hostname}", "-s", str(script)),
    )
    pairs = (line.partition("=") for line in output.splitlines() if "=" in line)
    return {key: value.strip("'") for key, _, value in pairs}


async def resolve(guest: Guest, name: str, server: str) -> str:
    """Answers of the network's name server, as text."""
    _, first = await guest.run("busybox", "nslookup", name, server)
    return first


async def eventually(test: Callable[[], Awaitable[bool]], seconds: float = 8.0) -> None:
    """Wait until ``await test()`` is true."""
    end = asyncio.get_running_loop().time() + seconds
    while not await test():
        assert asyncio.get_running_loop().time() < end, f"{test.__name__} not within {seconds} s"
        await asyncio.sleep(0.05)


async def ipv6_address(guest: Guest) -> list[str]:
    """Global addresses that are usable."""
    output = await guest.check("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global")
    return [line.split()[3] for line in output.splitlines() if "tentative" not in line]


async def test_a_guest_gets_its_addresses_and_finds_others_by_name(bed: Bed) -> None:
    network = await bed.network()
    web, web_guest = await bed.nic(network, "web1")
    db, db_guest = await bed.nic(network, "db1")
    given = await lease(web_guest, bed.directory)
    gateway = bed.driver.plan(network).gateways()[0]
    assert given["ip"] == web.ipv4
    assert (given["router"], given["dns"], given["domain"], given["search"]) == (gateway, gateway, "isola", "isola")
    assert (await lease(db_guest, bed.directory))["ip"] == db.ipv4

    for name in ("db1", "db1.isola"):
        answer = await resolve(web_guest, name, gateway)
        assert db.ipv4 is not None and db.ipv6 is not None
        assert db.ipv4 in answer and db.ipv6 in answer, answer
    assert db.ipv4 and "db1.isola" in await resolve(web_guest, db.ipv4, gateway)
    assert gateway in await resolve(web_guest, "_gateway.isola", gateway)
    await web_guest.check("ping", "-c1", "-W2", db.ipv4)

    async def has_ipv6() -> bool:
        return await ipv6_address(web_guest) == [f"{web.ipv6}/64"] and bool(await ipv6_address(db_guest))

    await eventually(has_ipv6)
    await web_guest.check("ping", "-c1", "-W2", str(db.ipv6))
    await bed.gone(network)


async def neighbour(bed: Bed) -> Guest:
    """A machine on the host's LAN, which is the host's router too."""
    outside = bed.netns.guest()
    for words in (
        f"link add up0 type veth peer name up1 netns {outside.pid}",
        "addr add 192.0.2.1/24 dev up0",
        "addr add 2001:db8::1/64 dev up0 nodad",
        "link set up0 up",
        "route add default via 192.0.2.2",
        "-6 route add default via 2001:db8::2",
    ):
        await check("ip", *words.split())
    await outside.check("ip", "addr", "add", "192.0.2.2/24", "dev", "up1")
    await outside.check("ip", "addr", "add", "2001:db8::2/64", "dev", "up1", "nodad")
    await outside.check("ip", "link", "set", "up1", "up")
    return outside


async def route_to(outside: Guest, bed: Bed, network: Network) -> None:
    """What a neighbour does to reach a network that nobody told it of."""
    plan = bed.driver.plan(network)
    assert plan.ipv4 is not None and plan.ipv6 is not None
    await outside.check("ip", "route", "add", str(plan.ipv4.network), "via", "192.0.2.1")
    await outside.check("ip", "-6", "route", "add", str(plan.ipv6.network), "via", "2001:db8::1")


async def listen(guest: Guest, address: str) -> asyncio.subprocess.Process:
    """A server that says who came, once."""
    server = await guest.start("python3", "-c", SERVER, address)
    assert server.stdout is not None and await server.stdout.readline() == b"ready\n"
    return server


async def connects(guest: Guest, address: str) -> bool:
    """Whether a server there answers."""
    status, _ = await guest.run("python3", "-c", CLIENT, address)
    return status == 0


async def test_a_guest_reaches_the_outside_through_nat(bed: Bed) -> None:
    outside = await neighbour(bed)
    network = await bed.network()
    _, guest = await bed.nic(network, "web1", configure=True)
    for address, seen in (("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")):
        server = await listen(outside, address)
        assert server.stdout is not None
        assert await connects(guest, address)
        assert (await server.stdout.readline()).decode().strip() == seen
        assert await server.wait() == 0
    await check("ip", "link", "del", "up0")
    await bed.gone(network)


SERVER = """
import socket, sys
s = socket.create_server((sys.argv[1], 8080), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("ready", flush=True)
c, peer = s.accept()
print(peer[0], flush=True)
c.sendall(b"hello")
"""
CLIENT = """
import socket, sys
assert socket.create_connection((sys.argv[1], 8080), 2).recv(5) == b"hello"
"""


async def test_a_neighbour_cannot_reach_what_is_behind_nat_by_a_route(bed: Bed) -> None:
    outside = await neighbour(bed)
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1", configure=True)
    await route_to(outside, bed, network)
    for address in (nic.ipv4, nic.ipv6):
        assert address is not None
        server = await listen(guest, address)
        assert not await connects(outside, address), f"{address} is reached from outside"
        config = await bed.driver.complete(
            dict(network.config) | {"ipv4.nat.inbound": "all", "ipv6.nat.inbound": "all"}, (), network.config
        )
        await bed.act(lambda op, c=config: bed.driver.update(op, network, replace(network, config=c), bed.nics))
        assert await connects(outside, address), f"{address} is not reached although that is allowed"
        assert await server.wait() == 0
        await bed.act(lambda op: bed.driver.update(op, network, network, bed.nics))
    await check("ip", "link", "del", "up0")
    await bed.gone(network)


async def test_a_published_port_is_reached_behind_nat(bed: Bed) -> None:
    outside = await neighbour(bed)
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1", configure=True)
    assert nic.ipv4 is not None
    rule = f"ip daddr 192.0.2.1 tcp dport 8080 dnat ip to {nic.ipv4}"
    await bed.host.firewall.apply("published", f"chain c {{ type nat hook prerouting priority dstnat; {rule}; }}")
    server = await listen(guest, nic.ipv4)
    assert await connects(outside, "192.0.2.1")
    assert await server.wait() == 0
    await bed.host.firewall.delete("published")
    await check("ip", "link", "del", "up0")
    await bed.gone(network)


async def test_a_routed_network_is_reached_from_outside(bed: Bed) -> None:
    outside = await neighbour(bed)
    network = await bed.network(ipv4_address="10.71.1.1/24", ipv6_address="fd42:7:7:7::1/64")
    nic, guest = await bed.nic(network, "web1", configure=True)
    await route_to(outside, bed, network)
    for address in (nic.ipv4, nic.ipv6):
        assert address is not None
        server = await listen(guest, address)
        assert await connects(outside, address)
        assert server.stdout is not None and await server.wait() == 0
    await check("ip", "link", "del", "up0")
    await bed.gone(network)


async def test_networks_behind_nat_do_not_reach_each_other(bed: Bed) -> None:
    config = await bed.driver.complete({}, ())
    first = Network("lab", config=config)
    second = Network("zoo", config=await bed.driver.complete({}, [first]))
    for network in (first, second):
        await bed.act(lambda op, n=network: bed.driver.start(op, n, ()))
    nic, guest = await bed.nic(first, "web1", configure=True)
    _, other = await bed.nic(second, "db1", configure=True)
    _, beside = await bed.nic(first, "web2", configure=True)
    for address in (nic.ipv4, nic.ipv6):
        assert address is not None
        server = await listen(guest, address)
        assert not await connects(other, address)
        assert await connects(beside, address)
        assert await server.wait() == 0
    for held in bed.nics:
        network = first if held.network == "lab" else second
        await bed.act(lambda op, net=network, n=held: bed.driver.detach(op, net, n))
    for network in (first, second):
        await bed.act(lambda op, n=network: bed.driver.stop(op, n))


@pytest.mark.parametrize("routed", [False, True])
async def test_no_foreign_source_leaves_the_host(bed: Bed, routed: bool) -> None:
    outside = await neighbour(bed)
    addresses = {"ipv4_address": "10.71.1.1/24", "ipv6_address": "fd42:7:7:7::1/64"} if routed else {}
    network = await bed.network(**addresses)
    nic, guest = await bed.nic(network, "web1", configure=True)
    forged = ("10.200.9.9", "2001:db8:bad::9")
    hidden = () if routed else (str(nic.ipv4),)
    sniffer = await outside.start("python3", "-c", SNIFFER, *forged, *hidden)
    assert sniffer.stdout is not None and await sniffer.stdout.readline() == b"ready\n"
    for source, target in zip(forged, ("192.0.2.2", "2001:db8::2"), strict=True):
        await guest.check("ip", "addr", "add", source, "dev", "lo")
        for kind in ("SOCK_DGRAM", "SOCK_STREAM"):
            await guest.check("python3", "-c", SEND, kind, source, target)
    await guest.check("python3", "-c", RESET, "192.0.2.2")
    output, _ = await sniffer.communicate()
    assert output == b"", "left the host"
    await check("ip", "link", "del", "up0")
    await bed.gone(network)


async def test_cloud_metadata_is_refused_unless_allowed(bed: Bed) -> None:
    outside = await neighbour(bed)
    services = ("169.254.169.254", "fd00:ec2::254")
    for address in services:
        await outside.check("ip", "addr", "add", address, "dev", "lo")
    network = await bed.network()
    _, guest = await bed.nic(network, "web1", configure=True)
    for address in services:
        server = await listen(outside, address)
        _, words = await guest.run("python3", "-c", CLIENT, address)
        assert "ConnectionRefusedError" in words, "refused, not dropped: nobody waits for it"
        config = await bed.driver.complete(dict(network.config) | {"security.metadata": "true"}, (), network.config)
        await bed.act(lambda op, c=config: bed.driver.update(op, network, replace(network, config=c), bed.nics))
        assert await connects(guest, address)
        assert await server.wait() == 0
        await bed.act(lambda op: bed.driver.update(op, network, network, bed.nics))
    await check("ip", "link", "del", "up0")
    await bed.gone(network)


SEND = """
import socket, sys
kind, source, target = sys.argv[1:]
family = socket.AF_INET6 if ":" in source else socket.AF_INET
s = socket.socket(family, getattr(socket, kind))
s.bind((source, 0))
s.settimeout(0.3)
try:
    s.connect((target, 9))
    s.send(b"forged")
except OSError:
    pass
"""
RESET = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
s.sendto(bytes.fromhex("1f901f900000000100000000500400000000") + bytes(2), (sys.argv[1], 0))
"""
"""A segment that belongs to no connection."""
SNIFFER = """
import ipaddress, socket, sys, time
wanted = [ipaddress.ip_address(text).packed for text in sys.argv[1:]]
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
s.bind(("up1", 3))
s.settimeout(0.2)
print("ready", flush=True)
end = time.monotonic() + 2.5
while time.monotonic() < end:
    try:
        packet = s.recv(2000)
    except TimeoutError:
        continue
    source = packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]
    if source in wanted:
        print(source.hex(), flush=True)
"""


async def test_a_network_that_leads_nowhere_is_no_way_out(bed: Bed) -> None:
    network = await bed.network(ipv4_routing="false", ipv6_routing="false")
    nic, guest = await bed.nic(network, "web1")
    given = await lease(guest, bed.directory)
    assert given["ip"] == nic.ipv4 and "router" not in given and given["dns"]

    async def has_ipv6() -> bool:
        return await ipv6_address(guest) == [f"{nic.ipv6}/64"]

    await eventually(has_ipv6)
    assert "default" not in await guest.check("ip", "-6", "route")
    await bed.gone(network)


async def test_of_several_nics_the_first_is_the_way_out(bed: Bed) -> None:
    first = await bed.network()
    second = Network("zoo", config=await bed.driver.complete({}, [first]))
    nowhere = {"ipv4.routing": "false", "ipv6.routing": "false"}
    third = Network("den", config=await bed.driver.complete(nowhere, [first, second]))
    nic, guest = await bed.nic(first, "web1", configure=True)
    gateway, gateway6 = bed.driver.plan(first).gateways()
    for number, network in enumerate((second, third), 1):
        await bed.act(lambda op, n=network: bed.driver.start(op, n, ()))
        plan = bed.driver.plan(network)
        assert plan.ipv4 is not None and plan.ipv6 is not None
        device = f"eth{number}"
        more = replace(
            nic, device=device, interface=device, network=network.name, ipv4=str(plan.ipv4.ip + 9),
            ipv6=str(plan.ipv6.ip + 9), mac=f"0a:69:73:00:01:0{number}", host_link=NAMES.veth("id-web1", device),
        )  # fmt: skip
        bed.nics.append(more)
        await bed.act(lambda op, n=network, m=more: bed.driver.attach(op, n, m, guest.ref))
    ways = [line.split()[:5] for line in (await guest.check("ip", "route", "show", "default")).splitlines()]
    assert len(ways) == 2 and ways[0] == ["default", "via", gateway, "dev", "eth0"]
    assert f"via {gateway} dev eth0" in await guest.check("ip", "route", "get", "192.0.2.2")
    assert f"via {gateway6} dev eth0" in await guest.check("ip", "-6", "route", "get", "2001:db8::2")
    await bed.host.links.delete(*(nic.host_link for nic in bed.nics))
    for network in (second, third):
        await bed.act(lambda op, n=network: bed.driver.stop(op, n))
    await bed.gone(first)


async def test_dnsmasq_listens_on_its_bridge_only(bed: Bed) -> None:
    await check("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    await check("ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
    await check("ip", "link", "set", "up0", "up")
    network = await bed.network()
    gateways, link = bed.driver.plan(network).gateways(), bed.driver.link(network.name)
    listing = await start("ss", "-H", "-lntu")
    output, _ = await listing.communicate()
    listening = {
        line.split()[4].rpartition(":")[0].strip("[]").replace("]%", "%") for line in output.decode().splitlines()
    }
    assert listening == {*gateways, f"0.0.0.0%{link}", f"::%{link}"}
    await check("ip", "link", "del", "up0")
    await bed.gone(network)


async def test_a_killed_dnsmasq_is_started_again(bed: Bed) -> None:
    network = await bed.network()
    _, guest = await bed.nic(network, "web1", configure=True)
    gateway = bed.driver.plan(network).gateways()[0]
    (first,) = bed.netns.processes()
    os.kill(first, signal.SIGKILL)

    async def answers() -> bool:
        return bed.netns.processes() != [first] and "web1.isola" in await resolve(guest, "web1.isola", gateway)

    await eventually(answers)
    assert len(bed.netns.processes()) == 1
    await bed.gone(network)


async def test_the_next_daemon_adopts_dnsmasq_and_disturbs_nobody(bed: Bed) -> None:
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1", configure=True)
    running = bed.netns.processes()
    await bed.driver.close()
    gateway = bed.driver.plan(network).gateways()[0]
    ping = await guest.start("ping", "-i", "0.05", "-c", "20", "-W", "1", "-q", gateway)
    bed.driver = BridgeNetworks(bed.host, bed.directory, NAMES)
    await bed.act(lambda op: bed.driver.start(op, network, [nic]))
    await bed.act(lambda op: bed.driver.start(op, network, [nic]))
    output, _ = await ping.communicate()
    assert b" 0% packet loss" in output, output
    assert bed.netns.processes() == running
    (pid,) = running
    assert os.stat(f"/proc/{pid}").st_uid != 0, "dnsmasq runs as root"
    await bed.gone(network)


async def test_names_that_go_are_forgotten_and_renamed_ones_found(bed: Bed) -> None:
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1", configure=True)
    gateway = bed.driver.plan(network).gateways()[0]
    renamed = replace(nic, instance_name="shop")
    await bed.act(lambda op: bed.driver.rename(op, network, nic, renamed))

    async def is_renamed() -> bool:
        old, new = [await resolve(guest, f"{name}.isola", gateway) for name in ("web1", "shop")]
        return str(nic.ipv4) in new and str(nic.ipv4) not in old

    await eventually(is_renamed)
    await bed.act(lambda op: bed.driver.unregister(op, network, renamed))

    async def is_forgotten() -> bool:
        return str(nic.ipv4) not in await resolve(guest, "shop.isola", gateway)

    await eventually(is_forgotten)
    await bed.gone(network)


async def test_leftovers_are_cleaned_and_strangers_kept(bed: Bed) -> None:
    network = await bed.network()
    nic, _ = await bed.nic(network, "web1")
    stranger = BridgeNetworks(bed.host, bed.directory / "other", HostNames("isola"))
    completed = await stranger.complete({}, [network])
    other = Network("lab", config=completed)
    await bed.act(lambda op: stranger.start(op, other, ()))
    await bed.driver.close()
    bed.driver = BridgeNetworks(bed.host, bed.directory, NAMES)
    await bed.driver.clean([network], [nic.host_link])
    assert await bed.host.links.exists(nic.host_link)
    await bed.driver.clean([network], [])
    assert not await bed.host.links.exists(nic.host_link)
    await bed.driver.clean([], [])
    assert await bed.host.links.names(NAMES.short) == ()
    assert await bed.host.links.exists("lab")
    assert await bed.host.firewall.tables() == ("isola/lab",)
    assert len(bed.netns.processes()) == 1
    await bed.act(lambda op: stranger.stop(op, other))
    await stranger.close()
    assert await bed.host.firewall.tables() == ()
    assert bed.netns.processes() == []


async def test_networks_side_by_side_serve_their_own(bed: Bed) -> None:
    networks = []
    for name, subnet in (("lab", "10.71.1.1/24"), ("zoo", "10.71.2.1/24")):
        config = await bed.driver.complete({"ipv4.address": subnet, "dns.domain": name}, networks)
        networks.append(Network(name, config=config))
        await bed.act(lambda op: bed.driver.start(op, networks[-1], ()))
    guests = [await bed.nic(network, f"web-{network.name}") for network in networks]
    for network, (nic, guest) in zip(networks, guests, strict=True):
        given = await lease(guest, bed.directory)
        assert (given["ip"], given["domain"]) == (nic.ipv4, network.name)
        assert nic.ipv4 and nic.ipv4 in await resolve(guest, f"web-{network.name}", given["dns"])
    stranger = "web-zoo.zoo"
    assert "10.71.2." not in await resolve(guests[0][1], stranger, "10.71.1.1")
    for network, (nic, _) in zip(networks, guests, strict=True):
        await bed.act(lambda op, net=network, n=nic: bed.driver.detach(op, net, n))
        await bed.act(lambda op, net=network: bed.driver.stop(op, net))
    assert await bed.host.links.names(NAMES.short) == () and bed.netns.processes() == []


async def test_a_stranger_gets_a_lease_that_is_listed_and_no_name(bed: Bed) -> None:
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1")
    await guest.check("ip", "link", "set", "eth0", "address", "0a:69:73:ff:ff:ff")
    given = await lease(guest, bed.directory, hostname="web1")
    assert given["ip"] != nic.ipv4
    (found,) = await bed.driver.leases(network)
    assert (found.address, found.mac, found.type) == (given["ip"], "0a:69:73:ff:ff:ff", "dynamic")
    answer = await resolve(guest, "web1.isola", given["dns"])
    assert nic.ipv4 and nic.ipv4 in answer and given["ip"] not in answer
    await bed.gone(network)


async def test_the_next_instance_gets_the_address_of_one_that_went(bed: Bed) -> None:
    network = await bed.network()
    old, old_guest = await bed.nic(network, "web1")
    assert (await lease(old_guest, bed.directory))["ip"] == old.ipv4
    assert [(found.address, found.mac) for found in await bed.driver.leases(network)] == [(old.ipv4, old.mac)]
    await bed.act(lambda op: bed.driver.detach(op, network, old))
    await bed.act(lambda op: bed.driver.unregister(op, network, old))

    async def no_lease_is_left() -> bool:
        return list(await bed.driver.leases(network)) == []

    await eventually(no_lease_is_left)
    bed.nics.clear()
    other, guest = await bed.nic(network, "web1", mac="0a:69:73:00:00:99")
    assert other.ipv4 == old.ipv4
    assert (await lease(guest, bed.directory))["ip"] == old.ipv4
    await bed.gone(network)


async def test_neighbours_learn_at_once_who_has_an_address_now(bed: Bed) -> None:
    network = await bed.network(ipv4_address="10.71.2.1/24")
    _, neighbour = await bed.nic(network, "web1")
    await lease(neighbour, bed.directory)
    remembered = ("10.71.2.20", "lladdr", "0a:69:73:00:00:01", "nud", "reachable", "dev", "eth0")
    await neighbour.check("ip", "neigh", "replace", *remembered)
    await bed.nic(network, "web2", mac="0a:69:73:00:00:99", ipv4="10.71.2.20")

    async def known() -> bool:
        return "0a:69:73:00:00:99" in (await neighbour.check("ip", "neigh", "show", "10.71.2.20"))

    await eventually(known)
    await bed.gone(network)


async def test_an_address_set_for_an_instance_is_taken_from_a_stranger(bed: Bed) -> None:
    network = await bed.network(ipv4_address="10.71.1.1/24")
    _, first = await bed.nic(network, "web1")
    await first.check("ip", "link", "set", "eth0", "address", "0a:69:73:ff:ff:ff")
    taken = (await lease(first, bed.directory))["ip"]
    wanted, guest = await bed.nic(network, "web2", ipv4=taken)
    assert (await lease(guest, bed.directory))["ip"] == wanted.ipv4 == taken
    await bed.gone(network)


async def test_a_lease_of_an_ipv6_address_goes_with_its_instance(bed: Bed) -> None:
    network = await bed.network(ipv6_dhcp_stateful="true", ipv6_address="fd42:7:7:7::1/64")
    old, guest = await bed.nic(network, "web1")
    await guest.check("ip", "link", "set", "eth0", "up")
    await guest.check("python3", "-c", SOLICIT, old.mac)
    assert old.ipv6 in [found.address for found in await bed.driver.leases(network)]
    await bed.act(lambda op: bed.driver.detach(op, network, old))
    await bed.act(lambda op: bed.driver.unregister(op, network, old))

    async def no_lease_is_left() -> bool:
        return list(await bed.driver.leases(network)) == []

    await eventually(no_lease_is_left)
    bed.nics.clear()
    await bed.gone(network)


SOLICIT = """
import socket, sys, time
def option(code, content):
    return code.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
duid = bytes([0, 3, 0, 1]) + bytes.fromhex(sys.argv[1].replace(":", ""))
message = b"\\1abc" + option(1, duid) + option(8, bytes(2)) + option(14, b"") + option(3, b"\\0\\0\\0\\7" + bytes(8))
client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
client.bind(("::", 546))
client.settimeout(1)
for _ in range(8):
    try:
        client.sendto(message, ("ff02::1:2", 547, 0, socket.if_nametoindex("eth0")))
        assert client.recv(2000)[0] == 7
        sys.exit(0)
    except OSError:
        time.sleep(0.3)
sys.exit(1)
"""


async def test_an_update_keeps_connections(bed: Bed) -> None:
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1", configure=True)
    gateway = bed.driver.plan(network).gateways()[0]
    ping = await guest.start("ping", "-i", "0.05", "-c", "20", "-W", "1", "-q", gateway)
    config = await bed.driver.complete({"dns.domain": "lab.example"}, (), network.config)
    changed = replace(network, config=config)
    await bed.act(lambda op: bed.driver.update(op, network, changed, [nic]))
    assert nic.ipv4 and nic.ipv4 in await resolve(guest, "web1.lab.example", gateway)
    output, _ = await ping.communicate()
    assert b" 0% packet loss" in output, output
    await bed.gone(changed)


async def test_lines_dnsmasq_does_not_understand_are_refused(bed: Bed) -> None:
    with pytest.raises(InvalidInput, match="bad option") as caught:
        await bed.driver.complete({"raw.dnsmasq": "make=coffee"}, ())
    assert caught.value.field == "config.raw.dnsmasq"
    network = await bed.network(raw_dnsmasq="address=/shop.example/192.0.2.77")
    _, guest = await bed.nic(network, "web1", configure=True)
    gateway = bed.driver.plan(network).gateways()[0]
    assert "192.0.2.77" in await resolve(guest, "shop.example", gateway)
    await bed.gone(network)


async def test_a_network_whose_dnsmasq_does_not_start_leaves_nothing(bed: Bed) -> None:
    config = await bed.driver.complete({"raw.dnsmasq": "log-facility=/nowhere/at/all"}, ())
    with pytest.raises(HostFailure, match="cannot open log /nowhere/at/all") as caught:
        await bed.act(lambda op: bed.driver.start(op, Network("lab", config=config), ()))
    assert caught.value.message == "Cannot start dnsmasq for network 'lab'"
    assert bed.netns.processes() == []
    assert await bed.host.links.names(NAMES.short) == () and await bed.host.firewall.tables() == ()
    assert os.listdir(bed.directory / "networks") == []


async def test_a_start_cancelled_at_any_moment_leaves_nothing(bed: Bed) -> None:
    config = await bed.driver.complete({}, ())
    network = Network("lab", config=config)
    cancelled = 0
    for milliseconds in range(0, 80, 4):
        operations = Operations(Events(bed.host.clock.now), now=bed.host.clock.now, new_id=bed.host.clock.uuid)
        operation = operations.start("test", lambda op: bed.driver.start(op, network, ()))
        await asyncio.sleep(milliseconds / 1000)
        if operation.may_cancel:
            operation.cancel()
            await operation.wait()
            assert operation.warnings == []
            cancelled += 1
            assert bed.netns.processes() == [], f"cancelled after {milliseconds} ms"
            assert await bed.host.links.names(NAMES.short) == ()
            assert await bed.host.firewall.tables() == ()
            assert await bed.host.files.names(bed.directory / "networks") == ()
        else:
            await bed.act(lambda op: bed.driver.stop(op, network))
    assert cancelled > 5
