"""Bridge networks on a real host: DHCP, names, routes, and killed processes."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from typing import cast

import pytest
from bridge_bed import NAMES, Bed, eventually, ipv6_address, lease, resolve
from netns import check, start

from isola.errors import HostFailure, InvalidInput
from isola.events import Events
from isola.host.files import Files
from isola.model.identity import HostNames
from isola.model.network import Network
from isola.network.drivers.bridge import BridgeNetworks
from isola.operations import Operations


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
    await web_guest.check("ping", "-c1", "-w20", db.ipv4)

    async def has_ipv6() -> bool:
        return await ipv6_address(web_guest) == [f"{web.ipv6}/64"] and bool(await ipv6_address(db_guest))

    await eventually(has_ipv6)
    await web_guest.check("ping", "-c1", "-w20", str(db.ipv6))
    await bed.gone(network)


async def test_an_isolated_network_gives_no_default_route(bed: Bed) -> None:
    network = await bed.network(ipv4_routing="false", ipv6_routing="false")
    nic, guest = await bed.nic(network, "web1")
    given = await lease(guest, bed.directory)
    assert given["ip"] == nic.ipv4 and "router" not in given and given["dns"]

    async def has_ipv6() -> bool:
        return await ipv6_address(guest) == [f"{nic.ipv6}/64"]

    await eventually(has_ipv6)
    assert "default" not in await guest.check("ip", "-6", "route")
    await bed.gone(network)


async def test_of_several_nics_the_first_has_the_default_route(bed: Bed) -> None:
    first = await bed.network()
    second = Network("zoo", config=await bed.driver.complete({}, [first]))
    nowhere = {"ipv4.routing": "false", "ipv6.routing": "false"}
    third = Network("den", config=await bed.driver.complete(nowhere, [first, second]))
    nic, guest = await bed.nic(first, "web1", configure=True)
    gateway, gateway6 = bed.driver.plan(first).gateways()
    for number, network in enumerate((second, third), 1):
        await bed.act(lambda op, n=network: bed.driver.start(op, n, ()))  # type: ignore[misc]
        plan = bed.driver.plan(network)
        assert plan.ipv4 is not None and plan.ipv6 is not None
        device = f"eth{number}"
        more = replace(
            nic, device=device, interface=device, network=network.ref, ipv4=str(plan.ipv4.ip + 9),
            ipv6=str(plan.ipv6.ip + 9), mac=f"0a:69:73:00:01:0{number}", host_link=NAMES.veth("id-web1", device),
        )  # fmt: skip
        bed.nics.append(more)
        await bed.act(lambda op, n=network, m=more: bed.driver.attach(op, n, m, guest.endpoint))  # type: ignore[misc]
    ways = [line.split()[:5] for line in (await guest.check("ip", "route", "show", "default")).splitlines()]
    assert len(ways) == 2 and ways[0] == ["default", "via", gateway, "dev", "eth0"]
    assert f"via {gateway} dev eth0" in await guest.check("ip", "route", "get", "192.0.2.2")
    assert f"via {gateway6} dev eth0" in await guest.check("ip", "-6", "route", "get", "2001:db8::2")
    await bed.host.links.delete(*(nic.host_link for nic in bed.nics))
    for network in (second, third):
        await bed.act(lambda op, n=network: bed.driver.stop(op, n))  # type: ignore[misc]
    await bed.gone(first)


async def test_dnsmasq_listens_on_its_bridge_only(bed: Bed) -> None:
    await check("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    await check("ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
    await check("ip", "link", "set", "up0", "up")
    network = await bed.network()
    gateways, link = bed.driver.plan(network).gateways(), bed.driver.link(network)
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

    async def is_alone() -> bool:
        # It goes to the background: what has started it may end only after it answers.
        return len(bed.netns.processes()) == 1

    await eventually(answers)
    await eventually(is_alone)
    await bed.gone(network)


async def test_the_next_daemon_adopts_dnsmasq_without_interruption(bed: Bed) -> None:
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1", configure=True)
    running = bed.netns.processes()
    await bed.driver.close()
    gateway = bed.driver.plan(network).gateways()[0]
    ping = await guest.start("ping", "-i", "0.05", "-c", "20", "-W", "10", "-q", gateway)
    bed.driver = BridgeNetworks(bed.host, bed.directory, NAMES)
    await bed.act(lambda op: bed.driver.start(op, network, [nic]))
    await bed.act(lambda op: bed.driver.start(op, network, [nic]))
    output, _ = await ping.communicate()
    assert b" 0% packet loss" in output, output
    assert bed.netns.processes() == running
    (pid,) = running
    assert os.stat(f"/proc/{pid}").st_uid != 0, "dnsmasq runs as root"
    await bed.gone(network)


async def test_removed_names_are_forgotten_and_renamed_ones_found(bed: Bed) -> None:
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


async def test_a_nic_is_registered_and_removed_with_one_call_each(bed: Bed) -> None:
    network = await bed.network()
    await bed.nic(network, "web1")
    nic = replace(bed.nics[0], device="eth1", host_link="lab1", ipv4=None, ipv6=None, mac="0a:69:73:0:0:77")
    files = Calls(bed.host.files)
    bed.driver.host = replace(bed.host, files=cast(Files, files))
    leases = bed.directory / "networks" / "lab" / "leases"

    async def leases_are_known() -> bool:
        await bed.driver.leases(network)
        files.names.clear()
        await bed.driver.leases(network)
        return "read" not in files.names

    await eventually(leases_are_known)
    files.names.clear()
    await bed.act(lambda op: bed.driver.register(op, network, nic))
    await bed.act(lambda op: bed.driver.register(op, network, nic))
    await bed.act(lambda op: bed.driver.unregister(op, network, nic))
    assert [name for name in files.names if name != "version"] == ["refresh"] * 3
    leases.write_text("1 0a:69:73:ff:ff:ff 10.1.1.1 * *\n0 0a:69:73:ff:ff:fe 10.1.1.2 * *\n")
    assert [found.mac for found in await bed.driver.leases(network)] == ["0a:69:73:ff:ff:fe"]
    await bed.gone(network)


async def test_files_of_nics_are_in_memory_and_those_of_an_earlier_version_are_removed(bed: Bed) -> None:
    home = bed.directory / "networks" / "lab"
    await bed.host.files.make_directory(home)
    for name in ("hosts.d", "names.d"):
        await bed.host.files.write_all({home / name / "old": b"x"}, directories={home / name: 0o755})
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1")
    assert await bed.host.mounts.mounted(home / "nics") and (await lease(guest, bed.directory))["ip"] == nic.ipv4
    assert not {"hosts.d", "names.d"} & set(await bed.host.files.names(home))
    await bed.gone(network)
    assert await bed.host.mounts.below(bed.directory) == ()


class Calls:
    """Files that record the names of called methods."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.names: list[str] = []

    def __getattr__(self, name: str) -> object:
        self.names.append(name)
        return getattr(self._files, name)


async def test_leftovers_are_removed_and_objects_of_other_daemons_kept(bed: Bed) -> None:
    network = await bed.network()
    nic, _ = await bed.nic(network, "web1")
    other_driver = BridgeNetworks(bed.host, bed.directory / "other", HostNames("isola"))
    completed = await other_driver.complete({}, [network])
    other = Network("lab", config=completed)
    await bed.act(lambda op: other_driver.start(op, other, ()))
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
    await bed.act(lambda op: other_driver.stop(op, other))
    await other_driver.close()
    assert await bed.host.firewall.tables() == ()
    assert bed.netns.processes() == []


async def test_several_networks_serve_their_own_clients(bed: Bed) -> None:
    networks: list[Network] = []
    for name, subnet in (("lab", "10.71.1.1/24"), ("zoo", "10.71.2.1/24")):
        config = await bed.driver.complete({"ipv4.address": subnet, "dns.domain": name}, networks)
        networks.append(Network(name, config=config))
        await bed.act(lambda op: bed.driver.start(op, networks[-1], ()))
    guests = [await bed.nic(network, f"web-{network.name}") for network in networks]
    for network, (nic, guest) in zip(networks, guests, strict=True):
        given = await lease(guest, bed.directory)
        assert (given["ip"], given["domain"]) == (nic.ipv4, network.name)
        assert nic.ipv4 and nic.ipv4 in await resolve(guest, f"web-{network.name}", given["dns"])
    name = "web-zoo.zoo"
    assert "10.71.2." not in await resolve(guests[0][1], name, "10.71.1.1")
    for network, (nic, _) in zip(networks, guests, strict=True):
        await bed.act(lambda op, net=network, n=nic: bed.driver.detach(op, net, n))  # type: ignore[misc]
        await bed.act(lambda op, net=network: bed.driver.stop(op, net))  # type: ignore[misc]
    assert await bed.host.links.names(NAMES.short) == () and bed.netns.processes() == []


async def test_an_update_keeps_connections(bed: Bed) -> None:
    network = await bed.network()
    nic, guest = await bed.nic(network, "web1", configure=True)
    gateway = bed.driver.plan(network).gateways()[0]
    ping = await guest.start("ping", "-i", "0.05", "-c", "20", "-W", "10", "-q", gateway)
    config = await bed.driver.complete({**network.config, "dns.domain": "lab.example"}, (), network.config)
    changed = replace(network, config=config)
    await bed.act(lambda op: bed.driver.update(op, network, changed, [nic]))
    assert nic.ipv4 and nic.ipv4 in await resolve(guest, "web1.lab.example", gateway)
    output, _ = await ping.communicate()
    assert b" 0% packet loss" in output, output
    await bed.gone(changed)


async def test_invalid_lines_for_dnsmasq_are_refused(bed: Bed) -> None:
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

    async def gone() -> bool:  # the process in the background ends after it has told its parent
        return bed.netns.processes() == []

    await eventually(gone)
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
