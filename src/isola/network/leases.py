"""dnsmasq's lease file, and the messages with which a client releases a lease. Pure.

dnsmasq reads the file only when it starts, so a lease is ended by a message and not by editing the file:
DHCPRELEASE (RFC 2131, 4.4.6) for IPv4, Release (RFC 8415, 18.2.7) for IPv6.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_BOOTREQUEST, _ETHERNET, _COOKIE, _BOOTP_SIZE = 1, 1, b"\x63\x82\x53\x63", 236
_MESSAGE_TYPE, _SERVER, _CLIENT, _END, _DHCPRELEASE = 53, 54, 61, 255, 7
_RELEASE6, _CLIENT6, _SERVER6, _IA_NA, _IA_TA, _IAADDR = 8, 1, 2, 3, 4, 5
SERVER4_PORT, SERVER6_PORT = 67, 547
SERVERS6 = "ff02::1:2"
"""All DHCPv6 servers of a link."""


@dataclass(frozen=True, slots=True)
class Held:
    """An address that dnsmasq has leased. The host name is untrusted."""

    address: str
    mac: str
    """Empty if the client has no Ethernet address, and for IPv6, where clients have a DUID."""
    hostname: str
    client: bytes
    """The client identifier or the DUID; empty if it sent none."""
    association: int = 0
    """IPv6: the id of the client's identity association (IAID)."""
    temporary: bool = False
    """IPv6: whether it is a temporary address."""


def read(text: str, now: float) -> list[Held]:
    """The leases that have not expired; malformed lines are skipped. ``now``: seconds since 1970."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 4 or not _NUMBER.fullmatch(fields[0]) or 0 < int(fields[0]) < now:
            continue
        address, client = _address(fields[2]), _identifier(fields[4] if len(fields) > 4 else "*")
        hostname = "" if fields[3] == "*" else fields[3]
        number = fields[1].removeprefix("T")
        if isinstance(address, IPv4Address):
            found.append(Held(str(address), _mac(fields[1]), hostname, client))
        elif isinstance(address, IPv6Address) and _NUMBER.fullmatch(number):
            found.append(Held(str(address), "", hostname, client, int(number) & 0xFFFFFFFF, fields[1][0] == "T"))
    return found


def is_whole(text: str, before: str) -> bool:
    """Whether the content is complete and was not read during a rewrite; ``before`` is the content read last.

    dnsmasq truncates the file first. Once it has a DUID, that is written after the IPv4 leases.
    """
    if "duid " in before and "duid " not in text:
        return False
    return text.endswith("\n") or (not text and not before)


def server_duid(text: str) -> bytes:
    """The server DUID of dnsmasq; empty if it has none yet."""
    for line in text.splitlines():
        if (fields := line.split())[:1] == ["duid"]:
            return _identifier("".join(fields[1:2]))
    return b""


def release4(held: Held, server: IPv4Address) -> bytes:
    """The DHCPRELEASE of an IPv4 lease."""
    mac = bytes.fromhex(held.mac.replace(":", ""))
    head = struct.pack("!BBBB4xHH", _BOOTREQUEST, _ETHERNET, len(mac), 0, 0, 0) + IPv4Address(held.address).packed
    options = bytes([_MESSAGE_TYPE, 1, _DHCPRELEASE, _SERVER, 4]) + server.packed
    if held.client:
        options += bytes([_CLIENT, len(held.client)]) + held.client
    return (head + bytes(12) + mac).ljust(_BOOTP_SIZE, b"\0") + _COOKIE + options + bytes([_END])


def release6(held: Held, server: bytes) -> bytes:
    """The Release of an IPv6 lease."""
    address = _option(_IAADDR, IPv6Address(held.address).packed + bytes(8))
    number = struct.pack("!I", held.association)
    association = _option(_IA_TA, number + address) if held.temporary else _option(_IA_NA, number + bytes(8) + address)
    return bytes([_RELEASE6, 0, 0, 1]) + _option(_CLIENT6, held.client) + _option(_SERVER6, server) + association


def _option(code: int, content: bytes) -> bytes:
    return struct.pack("!HH", code, len(content)) + content


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _mac(text: str) -> str:
    return text.lower() if _MAC.fullmatch(text) else ""


def _identifier(text: str) -> bytes:
    try:
        return bytes.fromhex(text.replace(":", ""))[:255]
    except ValueError:
        return b""
