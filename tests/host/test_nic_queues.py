"""Priorities and queues of NICs, and routes through them, as the kernel has them."""

from __future__ import annotations

import asyncio
import json
import socket
import sys

from netns import Guest, Netns

from isola.devices.filters import Filter, bridge_table, forwarded_table, routed_table
from isola.host.firewall import LinuxFirewall
from isola.host.link_kinds import Bridge, Inside, Macvlan, Pair, Routing
from isola.host.links import LinuxLinks
from isola.host.process import LinuxProcesses
from isola.host.static_routes import Route

MAC = "0a:69:73:00:00:01"
_COUNT = """
chain counted {
  type filter hook postrouting priority 300; policy accept;
  oifname "is00000009" udp dport 7777 counter comment "all"
  oifname "is00000009" meta priority 0:7 udp dport 7777 counter comment "first"
}
"""
_SEND = (
    "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 0)); "
    "s.sendto(b'hello', (sys.argv[2], 7777))"
)


async def prior(total: int) -> int:
    """How many of the first packets had the priority, when so many have left: a sender does not wait for that."""
    for _ in range(3000):
        answer = await LinuxProcesses().run(["nft", "-j", "list", "table", "inet", "counting"])
        rules = [entry["rule"] for entry in json.loads(answer.stdout)["nftables"] if "rule" in entry]
        counts = {
            str(rule["comment"]): int(part["counter"]["packets"])
            for rule in rules
            for part in rule["expr"]
            if "counter" in part
        }
        if counts["all"] == total:
            return counts["first"]
        await asyncio.sleep(0.02)
    raise AssertionError(f"of {total} packets {counts['all']} have left")


async def routed_guest(netns: Netns, links: LinuxLinks, number: int) -> Guest:
    """With the address 192.0.2.NUMBER."""
    guest, link, address = netns.guest(), f"is0000000{number}", f"192.0.2.{number}/32"
    inside = Inside((address,), ("169.254.0.1",), onlink=True)
    await links.connect(Pair(link, "eth0", "", f"0a:69:73:00:00:0{number}"), guest.endpoint.path, inside)
    await links.route(link, Routing(("169.254.0.1/32",), (address,)))
    return guest


async def send(guest: Guest, own: str) -> None:
    await guest.check(sys.executable, "-c", _SEND, own, "192.0.2.9")


async def test_packets_get_their_priority_where_they_leave(netns: Netns) -> None:
    links, firewall = LinuxLinks(LinuxProcesses()), LinuxFirewall(LinuxProcesses())
    sender = netns.guest()
    await links.create_bridge(Bridge("br0", ("10.1.2.1/24",)))
    inside = Inside(("10.1.2.7/24",), ("10.1.2.1",))
    await links.connect(Pair("is00000001", "eth0", "br0", MAC), sender.endpoint.path, inside)
    routed = await routed_guest(netns, links, 5)
    await routed_guest(netns, links, 9)
    await links.enable_forwarding("br0", ipv4=True, ipv6=False)
    await firewall.apply("counting", _COUNT)
    await send(sender, "10.1.2.7")
    await send(routed, "192.0.2.5")
    assert await prior(2) == 0
    await firewall.apply("isola.01", bridge_table(Filter("is00000001", priority=7)), "bridge")
    await firewall.apply("isola.01", forwarded_table("br0", MAC, 7))
    await send(sender, "10.1.2.7")
    assert await prior(3) == 1
    # A set of an address and of the subnet around it is accepted as well.
    await firewall.apply("isola.02", routed_table(Filter("is00000005", ipv4=("192.0.2.5", "192.0.2.0/28"), priority=7)))
    await send(routed, "192.0.2.5")
    assert await prior(4) == 2


async def test_a_subnet_is_reached_by_way_of_an_instance(netns: Netns) -> None:
    links, guest = LinuxLinks(LinuxProcesses()), netns.guest()
    await links.create_bridge(Bridge("br0", ("10.1.2.1/24",)))
    await links.connect(Pair("is00000001", "eth0", "br0", MAC), guest.endpoint.path, Inside(("10.1.2.7/24",)))
    await guest.check("ip", "addr", "add", "192.0.2.3/32", "dev", "lo")
    await links.add_routes([Route("192.0.2.0/28", "br0", "10.1.2.7")])
    listener = await guest.start(
        sys.executable,
        "-c",
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('192.0.2.3', 7777)); "
        "print('ready', flush=True); print(s.recv(100))",
    )
    assert listener.stdout is not None
    assert await listener.stdout.readline() == b"ready\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"through", ("192.0.2.3", 7777))
        assert await asyncio.wait_for(listener.stdout.readline(), 60) == b"b'through'\n"
    await listener.wait()


async def test_queues_have_their_length(netns: Netns) -> None:
    links, guest = LinuxLinks(LinuxProcesses()), netns.guest()
    await links.create_bridge(Bridge("br0"))
    await links.connect(Pair("is00000001", "eth0", "br0", MAC, queue=77), guest.endpoint.path, Inside())
    await links.create_macvlan(Macvlan("br0", "eth1", "0a:69:73:00:00:02", queue=78), guest.endpoint.path, Inside())
    shown = json.loads(await guest.check("ip", "-j", "link"))
    assert {link["ifname"]: link["txqlen"] for link in shown if link["ifname"] != "lo"} == {"eth0": 77, "eth1": 78}
    answer = await LinuxProcesses().run(["ip", "-j", "link", "show", "is00000001"])
    assert json.loads(answer.stdout)[0]["txqlen"] == 77
