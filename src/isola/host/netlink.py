"""The requests of rtnetlink(7) that starts and stops of instances make: about links, their addresses and routes.

Starting a program for them would take longer than the kernel needs. The kernel handles a request while it is sent, so
its answer is there afterwards.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Sequence
from ipaddress import IPv4Interface, ip_address, ip_interface
from typing import NamedTuple

from isola.host import kernel

_NEWLINK, _DELLINK, _GETLINK, _SETLINK, _NEWADDR, _NEWROUTE = 16, 17, 18, 19, 20, 24
_DELNEIGH, _NDA_DST = 29, 1
_ERROR = 2
_REQUEST, _ACK, _REPLACE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_ADDRESS, _NAME, _MTU, _MASTER, _QUEUE, _INFO, _SPEC, _NAMESPACE = 1, 3, 4, 10, 13, 18, 26, 28
_KIND, _DATA, _PEER = 1, 2, 1
_GENERATION_MODE, _NO_ADDRESS = 8, 1
_UP = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS, _WITHOUT_DETECTION = 1, 2, 4, 8, 2
_RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 4, 5, 6
_MAIN, _BOOT, _UNICAST, _ONLINK = 254, 3, 1, 4
_ANSWER = 65536


class Request(NamedTuple):
    """Type, flags and content of a message."""

    kind: int
    flags: int
    body: bytes


def opened() -> socket.socket:
    """A socket of the network namespace of this thread, whichever thread uses it later."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def opened_in(namespace: int) -> socket.socket:
    """A socket of another network namespace. Raises OSError.

    It is opened by a thread that ends afterwards: it could fail to return to the namespace it came from.
    """
    found: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            kernel.join(namespace, kernel.CLONE_NEWNET)
            found.append(opened())
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    (result,) = found
    if isinstance(result, OSError):
        raise result
    return result


def ask(sender: socket.socket, *requests: Request) -> None:
    """Send requests, until one fails. Raises OSError."""
    for request in requests:
        _ask(sender, request)


def new_pair(host: str, peer: str, *, mac: str, mtu: int, namespace: int, queue: int | None = None) -> Request:
    """A veth pair: ``host`` here, and ``peer`` in the network namespace of a descriptor; both down."""
    size = _number(_MTU, mtu) + _length(queue)
    inside = [_text(_NAME, peer), _attribute(_ADDRESS, bytes.fromhex(mac.replace(":", ""))), size]
    pair = _attribute(_PEER, _link() + b"".join([*inside, _number(_NAMESPACE, namespace)]))
    info = _attribute(_INFO, _text(_KIND, "veth") + _attribute(_DATA, pair))
    return Request(_NEWLINK, _CREATE | _EXCLUSIVE, _link() + _text(_NAME, host) + size + info)


def _length(queue: int | None) -> bytes:
    return b"" if queue is None else _number(_QUEUE, queue)


def port(link: str, master: int, mtu: int | None = None, *, queue: int | None = None) -> Request:
    """Bring a link up as a port of the bridge with this index, 0 is none, without an IPv6 link-local address."""
    quiet = _attribute(_SPEC, _attribute(socket.AF_INET6, _attribute(_GENERATION_MODE, bytes([_NO_ADDRESS]))))
    size = (b"" if mtu is None else _number(_MTU, mtu)) + _length(queue)
    return Request(_SETLINK, 0, _link(up=True) + _text(_NAME, link) + _number(_MASTER, master) + quiet + size)


def up(link: str) -> Request:
    return Request(_SETLINK, 0, _link(up=True) + _text(_NAME, link))


def down(link: str) -> Request:
    return Request(_SETLINK, 0, struct.pack("=BxHiII", 0, 0, 0, 0, _UP) + _text(_NAME, link))


def deletion(link: str) -> Request:
    """Of both ends of a pair. ENODEV if it does not exist."""
    return Request(_DELLINK, 0, _link() + _text(_NAME, link))


def index(sender: socket.socket, link: str) -> int:
    """The index of a link in the namespace of the socket. Raises OSError."""
    answer = _exchange(sender, Request(_GETLINK, 0, _link() + _text(_NAME, link)))
    _raise_error(answer)
    return int(struct.unpack_from("=i", answer, 20)[0])


def address(link: int, text: str) -> Request:
    """Add an address with its prefix length to the link with this index, for use at once (no DAD)."""
    own = ip_interface(text)
    attributes = _attribute(_IFA_LOCAL, own.ip.packed) + _attribute(_IFA_ADDRESS, own.ip.packed)
    if isinstance(own, IPv4Interface):
        if own.network.prefixlen < 31:
            attributes += _attribute(_IFA_BROADCAST, own.network.broadcast_address.packed)
    else:
        attributes += _number(_IFA_FLAGS, _WITHOUT_DETECTION)
    head = struct.pack("=BBBBI", _family(own.version), own.network.prefixlen, 0, 0, link)
    return Request(_NEWADDR, _CREATE | _EXCLUSIVE, head + attributes)


def default_route(link: int, gateway: str, *, metric: int, onlink: bool) -> Request:
    """Replace the default route with this metric."""
    way = ip_address(gateway)
    head = struct.pack("=8BI", _family(way.version), 0, 0, 0, _MAIN, _BOOT, 0, _UNICAST, _ONLINK if onlink else 0)
    attributes = _attribute(_RTA_GATEWAY, way.packed) + _number(_RTA_OIF, link) + _number(_RTA_PRIORITY, metric)
    return Request(_NEWROUTE, _CREATE | _REPLACE, head + attributes)


def forget_neighbour(link: int, text: str) -> Request:
    """The hardware address that the host has for an address on a link. ENOENT if it has none."""
    found = ip_address(text)
    head = struct.pack("=BxxxiHBB", _family(found.version), link, 0, 0, 0)
    return Request(_DELNEIGH, 0, head + _attribute(_NDA_DST, found.packed))


def delete(sender: socket.socket, links: Sequence[str]) -> None:
    """Delete links; those that do not exist, or cannot be deleted, do not prevent the deletion of the others."""
    for link in links:
        try:
            _ask(sender, deletion(link))
        except OSError:
            continue


def _ask(sender: socket.socket, request: Request) -> None:
    _raise_error(_exchange(sender, request))


def _exchange(sender: socket.socket, request: Request) -> bytes:
    kind, flags, body = request
    # A question is answered by what was asked for, anything else by a confirmation.
    confirmed = 0 if kind == _GETLINK else _ACK
    sender.send(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | confirmed | flags, 1, 0) + body)
    return sender.recv(_ANSWER, socket.MSG_DONTWAIT)


def _raise_error(answer: bytes) -> None:
    _, kind, *_ = struct.unpack_from("=IHHII", answer)
    if kind == _NEWLINK:
        return
    if kind != _ERROR:
        raise OSError(errno.EPROTO, "the kernel's response is invalid")
    (code,) = struct.unpack_from("=i", answer, 16)
    if code:
        raise OSError(-code, os.strerror(-code))


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _link(*, up: bool = False) -> bytes:
    """``struct ifinfomsg`` of a link that is named by an attribute."""
    return struct.pack("=BxHiII", 0, 0, 0, _UP if up else 0, _UP if up else 0)


def _attribute(kind: int, value: bytes) -> bytes:
    """``struct rtattr``, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))
