"""Connections from instances to other networks, and from other networks to instances."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from bridge_bed import Bed
from netns import Guest, check

from isola.model.network import Network

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
assert socket.create_connection((sys.argv[1], 8080), float(sys.argv[2])).recv(5) == b"hello"
"""


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
"""A TCP segment of no connection."""


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


async def neighbour(bed: Bed) -> Guest:
    """A machine on the host's LAN, which is also the host's router."""
    outside = bed.netns.guest()
    for arguments in (
        f"link add up0 type veth peer name up1 netns {outside.pid}",
        "addr add 192.0.2.1/24 dev up0",
        "addr add 2001:db8::1/64 dev up0 nodad",
        "link set up0 up",
        "route add default via 192.0.2.2",
        "-6 route add default via 2001:db8::2",
    ):
        await check("ip", *arguments.split())
    await outside.check("ip", "addr", "add", "192.0.2.2/24", "dev", "up1")
    await outside.check("ip", "addr", "add", "2001:db8::2/64", "dev", "up1", "nodad")
    await outside.check("ip", "link", "set", "up1", "up")
    return outside


async def route_to(outside: Guest, bed: Bed, network: Network) -> None:
    """A static route of a neighbour to a network that is not announced."""
    plan = bed.driver.plan(network)
    assert plan.ipv4 is not None and plan.ipv6 is not None
    await outside.check("ip", "route", "add", str(plan.ipv4.network), "via", "192.0.2.1")
    await outside.check("ip", "-6", "route", "add", str(plan.ipv6.network), "via", "2001:db8::1")


async def listen(guest: Guest, address: str) -> asyncio.subprocess.Process:
    """A server that prints the address of one client."""
    server = await guest.start("python3", "-c", SERVER, address)
    assert server.stdout is not None and await server.stdout.readline() == b"ready\n"
    return server


async def connects(guest: Guest, address: str) -> bool:
    """Whether a connection to a server there succeeds."""
    status, _ = await guest.run("python3", "-c", CLIENT, address, "40")
    return status == 0


async def is_kept_away(guest: Guest, address: str) -> bool:
    """Whether it does not, although others reach that server at once."""
    status, _ = await guest.run("python3", "-c", CLIENT, address, "2")
    return status != 0


async def test_a_guest_reaches_other_networks_through_nat(bed: Bed) -> None:
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


async def test_a_neighbour_cannot_reach_networks_behind_nat_by_a_route(bed: Bed) -> None:
    outside = await neighbour(bed)
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1", configure=True)
    await route_to(outside, bed, network)
    for address in (nic.ipv4, nic.ipv6):
        assert address is not None
        server = await listen(guest, address)
        assert await is_kept_away(outside, address), f"{address} is reached from outside"
        config = await bed.driver.complete(
            dict(network.config) | {"ipv4.nat.inbound": "all", "ipv6.nat.inbound": "all"}, (), network.config
        )
        await bed.act(lambda op, c=config: bed.driver.update(op, network, replace(network, config=c), bed.nics))  # type: ignore[misc]
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
        await bed.act(lambda op, n=network: bed.driver.start(op, n, ()))  # type: ignore[misc]
    nic, guest = await bed.nic(first, "web1", configure=True)
    _, other = await bed.nic(second, "db1", configure=True)
    _, beside = await bed.nic(first, "web2", configure=True)
    for address in (nic.ipv4, nic.ipv6):
        assert address is not None
        server = await listen(guest, address)
        assert await is_kept_away(other, address)
        assert await connects(beside, address)
        assert await server.wait() == 0
    for held in bed.nics:
        network = first if held.network.name == "lab" else second
        await bed.act(lambda op, net=network, n=held: bed.driver.detach(op, net, n))  # type: ignore[misc]
    for network in (first, second):
        await bed.act(lambda op, n=network: bed.driver.stop(op, n))  # type: ignore[misc]


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
    services = ("169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe")  # the last if it is translated
    for address in services:
        await outside.check("ip", "addr", "add", address, "dev", "lo")
    network = await bed.network()
    _, guest = await bed.nic(network, "web1", configure=True)
    for address in services:
        server = await listen(outside, address)
        _, stderr = await guest.run("python3", "-c", CLIENT, address, "40")
        assert "ConnectionRefusedError" in stderr, "refused, not dropped: the client does not wait for it"
        config = await bed.driver.complete(dict(network.config) | {"security.metadata": "true"}, (), network.config)
        await bed.act(lambda op, c=config: bed.driver.update(op, network, replace(network, config=c), bed.nics))  # type: ignore[misc]
        assert await connects(guest, address)
        assert await server.wait() == 0
        await bed.act(lambda op: bed.driver.update(op, network, network, bed.nics))
    await check("ip", "link", "del", "up0")
    await bed.gone(network)
