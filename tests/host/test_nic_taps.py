"""Taps of virtual machines work as the links of containers do: DHCP, filters, isolation, limits, published ports."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from bridge_bed import Bed, lease
from netns import Guest, start
from tap_machine import plugged

from isola.devices.filters import Filter, bridge_table
from isola.devices.port_forwarder import PortForwarder
from isola.host.link_kinds import Routing, Tap
from isola.model.network import HostTap, Network, Nic

OTHER_MAC = "0a:69:73:00:00:66"


@contextlib.asynccontextmanager
async def machine(bed: Bed, network: Network, name: str) -> AsyncIterator[tuple[Nic, Guest]]:
    """A guest whose NIC is a tap, with an address from DHCP."""
    nic, guest = await bed.nic(network, name)
    await bed.act(lambda op: bed.driver.detach(op, network, nic))
    await bed.act(lambda op: bed.driver.attach(op, network, nic, HostTap()))
    with plugged(guest, nic.host_link, nic.mac):
        given = await lease(guest, bed.directory)
        assert given["ip"] == nic.ipv4
        yield nic, guest


async def reaches(guest: Guest, address: str | None, seconds: int = 20) -> bool:
    return (await guest.run("ping", "-c1", f"-w{seconds}", str(address)))[0] == 0


async def test_machines_and_containers_reach_each_other_by_names_and_addresses(bed: Bed) -> None:
    network = await bed.network()
    gateway = bed.driver.plan(network).gateways()[0]
    other, container = await bed.nic(network, "box")
    await lease(container, bed.directory)
    async with machine(bed, network, "vm1") as (nic, guest):
        assert await reaches(guest, gateway) and await reaches(guest, other.ipv4) and await reaches(container, nic.ipv4)
        assert str(nic.ipv4) in await container.check("busybox", "nslookup", "vm1", gateway)
        for one, isolated in ((True, False), (False, True)):
            for port in (nic, other):
                await bed.host.links.isolate(port.host_link, isolated=one)
            assert await reaches(guest, other.ipv4, 20 if isolated else 1) == isolated
    await bed.gone(network)


async def test_spoofed_senders_are_dropped(bed: Bed) -> None:
    network = await bed.network()
    gateway = bed.driver.plan(network).gateways()[0]
    async with machine(bed, network, "vm1") as (nic, guest):
        assert nic.ipv4 is not None
        rules = bridge_table(Filter(nic.host_link, mac=nic.mac, ipv4=(nic.ipv4,)))
        await bed.host.firewall.apply("isola-7e57-vm1", rules, "bridge")
        assert await reaches(guest, gateway)
        await guest.check("ip", "addr", "add", f"{gateway.rpartition('.')[0]}.250/24", "dev", "eth0")
        spoofed = f"{gateway.rpartition('.')[0]}.250"
        assert (await guest.run("ping", "-c1", "-W1", "-I", spoofed, gateway))[0] != 0
        await guest.check("ip", "link", "set", "eth0", "address", OTHER_MAC)
        await guest.check("ip", "neigh", "flush", "all")
        assert not await reaches(guest, gateway, 1)
        await bed.host.firewall.delete("isola-7e57-vm1", "bridge")
        # The host does not change a neighbour's MAC address within a second of the last change (neigh.locktime).
        assert await reaches(guest, gateway, seconds=30)
    await bed.gone(network)


async def asked(address: str, port: str) -> bytes:
    """What a server says, once it listens."""
    for _ in range(300):
        client = await start("busybox", "nc", "-w", "2", address, port)
        if b"hello" in (said := (await client.communicate())[0]):
            break
    return said


async def test_rates_are_limited_and_ports_reached_from_the_host(bed: Bed) -> None:
    network = await bed.network()
    async with machine(bed, network, "vm1") as (nic, guest):
        await bed.host.links.shape(nic.host_link, 8_000_000)
        shown = await (await start("tc", "qdisc", "show", "dev", nic.host_link)).communicate()
        assert b"tbf" in shown[0] and b"rate 8Mbit" in shown[0]
        forwarder = PortForwarder(bed.host, bed.directory / "ports")
        await forwarder.publish("vm1 web", {("tcp", "127.0.0.1", 18080): (str(nic.ipv4), 80)})
        for address, port in ((str(nic.ipv4), "80"), ("127.0.0.1", "18080")):
            server = await guest.start("busybox", "nc", "-l", "-p", "80", "-e", "echo", "hello")
            assert b"hello" in await asked(address, port)
            await server.wait()
        await forwarder.drop("vm1 web")
    await bed.gone(network)


async def test_a_routed_tap_reaches_the_host_without_a_bridge(bed: Bed) -> None:
    await bed.host.links.create_tap(Tap("is7e57tap0", ""))
    await bed.host.links.route("is7e57tap0", Routing(addresses=("169.254.0.1/32",), subnets=("192.0.2.9/32",)))
    guest = bed.netns.guest()
    with plugged(guest, "is7e57tap0", "0a:69:73:00:00:01"):
        for line in (
            "link set eth0 up",
            "addr add 192.0.2.9/32 dev eth0",
            "route add default via 169.254.0.1 dev eth0 onlink",
        ):
            await guest.check("ip", *line.split())
        assert await reaches(guest, "169.254.0.1")
    await bed.host.links.delete("is7e57tap0")
