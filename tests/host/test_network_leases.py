"""Leases on a real host: of instances, of unknown clients, and of deleted instances."""

from __future__ import annotations

from bridge_bed import Bed, eventually, lease, resolve

from isola.model.network import Network, Nic

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


async def leave(bed: Bed, network: Network, nic: Nic) -> None:
    """Remove the only NIC with its lease."""
    await bed.act(lambda op: bed.driver.detach(op, network, nic))
    await bed.act(lambda op: bed.driver.unregister(op, network, nic))

    async def no_lease_is_left() -> bool:
        return list(await bed.driver.leases(network)) == []

    await eventually(no_lease_is_left)
    bed.nics.clear()


async def test_an_unknown_client_gets_a_listed_lease_and_no_name(bed: Bed) -> None:
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


async def test_the_next_instance_gets_the_address_of_a_deleted_one(bed: Bed) -> None:
    network = await bed.network()
    old, old_guest = await bed.nic(network, "web1")
    assert (await lease(old_guest, bed.directory))["ip"] == old.ipv4
    assert [(found.address, found.mac) for found in await bed.driver.leases(network)] == [(old.ipv4, old.mac)]
    await leave(bed, network, old)
    other, guest = await bed.nic(network, "web1", mac="0a:69:73:00:00:99")
    assert other.ipv4 == old.ipv4
    assert (await lease(guest, bed.directory))["ip"] == old.ipv4
    await bed.gone(network)


async def test_neighbours_learn_the_new_mac_of_an_address_at_once(bed: Bed) -> None:
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


async def test_an_address_set_for_an_instance_is_taken_from_an_unknown_client(bed: Bed) -> None:
    network = await bed.network(ipv4_address="10.71.1.1/24")
    _, first = await bed.nic(network, "web1")
    await first.check("ip", "link", "set", "eth0", "address", "0a:69:73:ff:ff:ff")
    taken = (await lease(first, bed.directory))["ip"]
    wanted, guest = await bed.nic(network, "web2", ipv4=taken)
    assert (await lease(guest, bed.directory))["ip"] == wanted.ipv4 == taken
    await bed.gone(network)


async def test_an_ipv6_lease_is_removed_with_its_instance(bed: Bed) -> None:
    network = await bed.network(ipv6_dhcp_stateful="true", ipv6_address="fd42:7:7:7::1/64")
    old, guest = await bed.nic(network, "web1")
    await guest.check("ip", "link", "set", "eth0", "up")
    await guest.check("python3", "-c", SOLICIT, old.mac)
    assert old.ipv6 in [found.address for found in await bed.driver.leases(network)]
    await leave(bed, network, old)
    await bed.gone(network)
