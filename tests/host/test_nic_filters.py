"""Spoofed MAC, ARP, IP, neighbour discovery, router advertisements and DHCP of an instance are dropped."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address

import pytest
from netns import Guest, Netns

from isola.devices.filters import Filter, bridge_table, link_local, routed_table
from isola.host.firewall import LinuxFirewall
from isola.host.link_kinds import Bridge, Inside, Pair, Routing
from isola.host.links import LinuxLinks
from isola.host.process import LinuxProcesses

MAC, OTHER_MAC, NEIGHBOUR_MAC = "0a:69:73:00:00:01", "0a:69:73:00:00:66", "0a:69:73:00:00:02"
IP, OTHER_IP = "10.77.0.5", "10.77.0.1"
IP6, OTHER_IP6 = "fd77::5", "fd77::1"
EVERYBODY, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
LISTEN = """
import json, select, socket, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.bind(("eth0", 0))
print("ready", flush=True)
seen = []
while True:
    data = raw.recv(65536)
    if data.endswith(b"end of frames"):
        break
    seen.append(data.hex())
print(json.dumps(seen))
"""
SEND = """
import json, socket, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
for frame in json.load(sys.stdin):
    raw.send(bytes.fromhex(frame))
    time.sleep(0.002)
"""


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def frame(kind: int, payload: bytes, *, source: str = MAC, target: str = NEIGHBOUR_MAC) -> bytes:
    return mac(target) + mac(source) + struct.pack("!H", kind) + payload


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data if len(data) % 2 == 0 else b""))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: str, payload: bytes, *, target: str = "10.77.0.9", protocol: int = 17) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0,
        IPv4Address(source).packed, IPv4Address(target).packed,
    )  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(source: int, target: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload


def ipv6(source: str, payload: bytes, *, target: str = "ff02::1", following: int = 58) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(payload), following, 255)
    return head + IPv6Address(source).packed + IPv6Address(target).packed + payload


def icmp6(kind: int, body: bytes, *, source: str, target: str = "ff02::1") -> bytes:
    bare = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = IPv6Address(source).packed + IPv6Address(target).packed + struct.pack("!IHBB", len(bare), 0, 0, 58)
    return bare[:2] + struct.pack("!H", checksum(pseudo + bare)) + bare[4:]


def arp(sender: str, address: str, *, operation: int = 2) -> bytes:
    parts = mac(sender) + IPv4Address(address).packed + mac(NEIGHBOUR_MAC) + IPv4Address("10.77.0.9").packed
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + parts


def advert(target: str, owner: str, *, source: str, more: bytes = b"") -> bytes:
    body = struct.pack("!I", 0x60000000) + IPv6Address(target).packed + b"\x02\x01" + mac(owner) + more
    return ipv6(source, icmp6(136, body, source=source))


def solicit(target: str, owner: str, *, source: str) -> bytes:
    return ipv6(source, icmp6(135, bytes(4) + IPv6Address(target).packed + b"\x01\x01" + mac(owner), source=source))


LOCAL = link_local(MAC)
LEGAL = {
    "arp": frame(0x0806, arp(MAC, IP)),
    "arp probe": frame(0x0806, arp(MAC, "0.0.0.0", operation=1), target=EVERYBODY),
    "ipv4": frame(0x0800, ipv4(IP, udp(1000, 2000, b"legal"))),
    "dhcp discover": frame(
        0x0800, ipv4("0.0.0.0", udp(68, 67, b"discover"), target="255.255.255.255"), target=EVERYBODY
    ),
    "ipv6": frame(0x86DD, ipv6(IP6, udp(1000, 2000, b"legal"), target="fd77::9", following=17)),
    "link-local": frame(0x86DD, ipv6(LOCAL, udp(546, 547, b"legal"), following=17), target=ALL_NODES),
    "advert": frame(0x86DD, advert(IP6, MAC, source=IP6), target=ALL_NODES),
    "solicit": frame(0x86DD, solicit("fd77::9", MAC, source=IP6), target=ALL_NODES),
    "router solicit": frame(
        0x86DD, ipv6(LOCAL, icmp6(133, bytes(4) + b"\x01\x01" + mac(MAC), source=LOCAL)), target=ALL_NODES
    ),
    "duplicate detection": frame(
        0x86DD,
        ipv6("::", icmp6(135, bytes(4) + IPv6Address(IP6).packed + b"\x0e\x01abcdef", source="::")),
        target=ALL_NODES,
    ),
}
_RA = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"\x01\x01" + mac(MAC)
FORGED_MAC = {
    "mac": frame(0x0800, ipv4(IP, udp(1, 2, b"x")), source=OTHER_MAC),
    "arp's mac": frame(0x0806, arp(OTHER_MAC, IP)),
    "advert's mac": frame(0x86DD, advert(IP6, OTHER_MAC, source=IP6), target=ALL_NODES),
    "advert's second option": frame(
        0x86DD, advert(IP6, MAC, source=IP6, more=b"\x02\x01" + mac(OTHER_MAC)), target=ALL_NODES
    ),
    "solicit's mac": frame(0x86DD, solicit("fd77::9", OTHER_MAC, source=IP6), target=ALL_NODES),
    "router solicit's mac": frame(
        0x86DD, ipv6(LOCAL, icmp6(133, bytes(4) + b"\x01\x01" + mac(OTHER_MAC), source=LOCAL)), target=ALL_NODES
    ),
    "advert behind an extension": frame(
        0x86DD,
        ipv6(
            IP6,
            b"\x3a\x00\x01\x04\x00\x00\x00\x00"
            + icmp6(136, bytes(4) + IPv6Address(IP6).packed + b"\x02\x01" + mac(OTHER_MAC), source=IP6),
            following=60,
        ),
        target=ALL_NODES,
    ),
}
FORGED_IPV4 = {
    "arp's address": frame(0x0806, arp(MAC, OTHER_IP)),
    "arp announcement": frame(0x0806, arp(MAC, OTHER_IP, operation=1), target=EVERYBODY),
    "ipv4": frame(0x0800, ipv4(OTHER_IP, udp(1, 2, b"x"))),
    "dhcp offer": frame(0x0800, ipv4(IP, udp(67, 68, b"offer"), target="255.255.255.255"), target=EVERYBODY),
    "dhcp offer of another": frame(0x0800, ipv4(OTHER_IP, udp(67, 68, b"offer")), target=EVERYBODY),
    "tagged": frame(0x8100, struct.pack("!HH", 7, 0x0806) + arp(MAC, OTHER_IP)),
    "spanning tree": frame(0x0026, b"\x42\x42\x03" + bytes(35), target="01:80:c2:00:00:0e"),
}
FORGED_IPV6 = {
    "ipv6": frame(0x86DD, ipv6(OTHER_IP6, udp(1, 2, b"x"), following=17), target=ALL_NODES),
    "link-local of another": frame(0x86DD, ipv6("fe80::1", udp(1, 2, b"x"), following=17), target=ALL_NODES),
    "advert for another": frame(0x86DD, advert(OTHER_IP6, MAC, source=IP6), target=ALL_NODES),
    "duplicate detection for another": frame(
        0x86DD,
        ipv6("::", icmp6(135, bytes(4) + IPv6Address(OTHER_IP6).packed + b"\x0e\x01abcdef", source="::")),
        target=ALL_NODES,
    ),
    "router advert": frame(0x86DD, ipv6(LOCAL, icmp6(134, _RA, source=LOCAL)), target=ALL_NODES),
    "router advert behind an extension": frame(
        0x86DD,
        ipv6(LOCAL, b"\x3a\x00\x01\x04\x00\x00\x00\x00" + icmp6(134, _RA, source=LOCAL), following=60),
        target=ALL_NODES,
    ),
    "redirect": frame(0x86DD, ipv6(LOCAL, icmp6(137, bytes(36), source=LOCAL)), target=ALL_NODES),
    "dhcpv6 reply": frame(0x86DD, ipv6(LOCAL, udp(547, 546, b"reply"), following=17), target=ALL_NODES),
}
FORGED = FORGED_MAC | FORGED_IPV4 | FORGED_IPV6


class Bed:
    """A bridge with the ports of a spoofing instance and of a neighbour."""

    def __init__(self, netns: Netns) -> None:
        processes = LinuxProcesses()
        self.links, self.firewall = LinuxLinks(processes), LinuxFirewall(processes)
        self.forger, self.neighbour = netns.guest(), netns.guest()

    async def build(self) -> None:
        await self.links.create_bridge(Bridge("br0"))
        for guest, host, address in ((self.forger, "is00000001", MAC), (self.neighbour, "is00000002", NEIGHBOUR_MAC)):
            await self.links.connect(Pair(host, "eth0", "br0", address), guest.endpoint.path, Inside())

    async def filter(self, wanted: Filter) -> None:
        await self.firewall.apply("isola.0a", bridge_table(wanted), family="bridge")

    def passed(self, frames: dict[str, bytes]) -> set[str]:
        """The frames that the neighbour receives."""
        end = frame(0x0800, ipv4(OTHER_IP, udp(9, 9, b"end of frames")))
        listener = subprocess.Popen(
            self.neighbour.command(sys.executable, "-c", LISTEN), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert listener.stdout is not None and listener.stdout.readline() == b"ready\n"
        run(self.forger, SEND, input=json.dumps([each.hex() for each in frames.values()]))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as bridge:
            bridge.bind(("br0", 0))
            bridge.send(end)
        output, _ = listener.communicate(timeout=120)
        seen = set(json.loads(output))
        return {name for name, each in frames.items() if each.hex() in seen or _untagged(each).hex() in seen}


def _untagged(data: bytes) -> bytes:
    return data[:12] + data[16:] if data[12:14] == b"\x81\x00" else data


def run(guest: Guest, script: str, *arguments: str, input: str = "") -> None:
    argv = guest.command(sys.executable, "-c", script, *arguments)
    subprocess.run(argv, check=True, timeout=120, input=input, text=True)


@pytest.fixture
async def bed(netns: Netns) -> Bed:
    bed = Bed(netns)
    await bed.build()
    return bed


async def test_without_filters_all_frames_pass(bed: Bed) -> None:
    """Shows that the other tests can fail."""
    wanted = set(LEGAL | {f"forged {name}": each for name, each in FORGED.items()}) - {"forged spanning tree"}
    assert bed.passed(LEGAL | {f"forged {name}": each for name, each in FORGED.items()}) >= wanted


async def test_with_all_filters_nothing_forged_passes(bed: Bed) -> None:
    await bed.filter(Filter("is00000001", MAC, (IP,), (IP6,)))
    assert bed.passed(FORGED) == set()
    assert bed.passed(LEGAL) == set(LEGAL)


async def test_each_filter_drops_its_frames(bed: Bed) -> None:
    await bed.filter(Filter("is00000001", MAC))
    assert bed.passed(FORGED_MAC) == set() and bed.passed(LEGAL) == set(LEGAL)
    await bed.filter(Filter("is00000001", MAC, ipv4=(IP,)))
    assert bed.passed(FORGED_MAC | FORGED_IPV4) == set() and bed.passed(LEGAL) == set(LEGAL)
    await bed.filter(Filter("is00000001", MAC, ipv6=(IP6,)))
    assert bed.passed(FORGED_MAC | FORGED_IPV6) == set() and bed.passed(LEGAL) == set(LEGAL)


async def test_an_address_family_without_addresses_is_dropped(bed: Bed) -> None:
    await bed.filter(Filter("is00000001", MAC, ipv6=()))
    assert bed.passed(LEGAL) == {"arp", "arp probe", "ipv4", "dhcp discover"}


async def test_a_rate_limit_drops_excess_frames(bed: Bed) -> None:
    await bed.filter(Filter("is00000001", rate=800_000))
    many = {str(number): frame(0x0800, ipv4(IP, udp(1, number, bytes(1200)))) for number in range(1, 600)}
    assert 100 < len(bed.passed(many)) < 500


async def test_a_routed_nic_sends_only_from_its_addresses(netns: Netns) -> None:
    processes = LinuxProcesses()
    links, firewall, guest = LinuxLinks(processes), LinuxFirewall(processes), netns.guest()
    body = routed_table(Filter("is00000001", ipv4=("192.0.2.5",), ipv6=()))
    await firewall.apply("isola.0a", body)
    inside = Inside(("192.0.2.5/32",), ("169.254.0.1",), onlink=True)
    await links.connect(Pair("is00000001", "eth0", "", MAC), guest.endpoint.path, inside)
    await links.route("is00000001", Routing(("169.254.0.1/32",), ("192.0.2.5/32",)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("169.254.0.1", 7777))
        server.settimeout(60)
        send = "import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind((sys.argv[1],0)); "
        send += "s.sendto(sys.argv[1].encode(), ('169.254.0.1', 7777))"
        run(guest, send, "192.0.2.5")
        assert server.recv(100) == b"192.0.2.5"
        await guest.check("ip", "addr", "add", "192.0.2.9/32", "dev", "eth0")
        run(guest, send, "192.0.2.9")
        server.settimeout(0.5)
        with pytest.raises(TimeoutError):
            server.recv(100)
