"""Rewritten connections that the kernel remembers, by netlink: datagrams to a former target are looked up again."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Collection, Iterator
from ipaddress import ip_address

_NETFILTER = 12
"""The protocol of the socket."""
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ORIGINAL, _REPLY, _ZONE = 1, 2, 18
_IP, _PROTOCOL = 1, 2
_SOURCES = {4: 1, 6: 3}
"""IP version -> attribute with the source address."""
_NUMBER, _SOURCE_PORT = 1, 2
_HEADER, _GENERIC = struct.Struct("=IHHII"), struct.Struct("=BBH")
_KIND = 0x3FFF
_RECEIVED = 1 << 18
_TIMEOUT = 10
"""Seconds for an answer."""


def opened() -> socket.socket:
    """A socket of the network namespace of this thread, whichever thread uses it later. Raises OSError."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    made.settimeout(_TIMEOUT)
    return made


def forget(sender: socket.socket, protocol: int, address: str, ports: Collection[int]) -> int:
    """Forget connections that are answered from this address and these ports; returns how many. Raises OSError."""
    version = ip_address(address).version
    wanted = {(ip_address(address).packed, bytes([protocol]), struct.pack("!H", port)) for port in ports}
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    found = [each for each in _all(sender, family) if _source(each.get(_REPLY, b""), version) in wanted]
    for each in found:
        identity = b"".join(_attribute(kind, each[kind]) for kind in (_ORIGINAL, _ZONE) if kind in each)
        sender.send(_message(_DELETE, _REQUEST | _ACK, family, identity))
        with contextlib.suppress(FileNotFoundError):  # it has expired meanwhile
            for _ in _messages(sender.recv(_RECEIVED)):
                pass
    return len(found)


def _all(sender: socket.socket, family: int) -> Iterator[dict[int, bytes]]:
    sender.send(_message(_GET, _REQUEST | _DUMP, family, b""))
    while True:
        for kind, body in _messages(sender.recv(_RECEIVED)):
            if kind == _DONE:
                return
            yield _attributes(body[_GENERIC.size :])


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each. Raises OSError for one that reports an error."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        body = data[at + _HEADER.size : at + length]
        if kind == _ERROR and (code := struct.unpack_from("=i", body)[0]):
            raise OSError(-code, "the kernel refuses the request")
        yield kind, body
        at += max(_HEADER.size, length + 3 & ~3)


def _source(tuple_: bytes, version: int) -> tuple[bytes, bytes, bytes]:
    """Address, protocol and port that a connection comes from, in one of its directions."""
    parts = _attributes(tuple_)
    addresses, protocol = _attributes(parts.get(_IP, b"")), _attributes(parts.get(_PROTOCOL, b""))
    return addresses.get(_SOURCES[version], b""), protocol.get(_NUMBER, b""), protocol.get(_SOURCE_PORT, b"")


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & _KIND] = data[at + 4 : at + length]
        at += max(4, length + 3 & ~3)
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    nested = 0x8000 if kind == _ORIGINAL else 0
    return struct.pack("=HH", 4 + len(value), kind | nested) + value + bytes(-len(value) % 4)


def _message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    return (
        _HEADER.pack(_HEADER.size + _GENERIC.size + len(body), kind, flags, 1, 0) + _GENERIC.pack(family, 0, 0) + body
    )
