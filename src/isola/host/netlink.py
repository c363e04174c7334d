"""The requests of rtnetlink(7) that every start and stop makes: creating and deleting a veth pair.

Starting a program for them would take longer than the kernel needs.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

from isola.host.threads import in_thread

_NEWLINK, _DELLINK, _SETLINK = 16, 17, 19
_ERROR = 2
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_ADDRESS, _NAME, _MTU, _MASTER, _INFO, _SPEC, _NAMESPACE = 1, 3, 4, 10, 18, 26, 28
_KIND, _DATA, _PEER = 1, 2, 1
_GENERATION_MODE, _NO_ADDRESS = 8, 1
_UP = 1
_PATIENCE = 30.0
_ANSWER = 65536


async def create_pair(host: str, peer: str, *, mac: str, mtu: int, master: int | None, namespace: int) -> None:
    """A veth pair: ``host`` in this namespace, up, and optionally a port of the link with index ``master``.

    A port has no IPv6 link-local address. ``peer`` is created in the network namespace
    of a descriptor, down. Raises OSError; the pair may exist then.
    """
    inside = [_text(_NAME, peer), _attribute(_ADDRESS, bytes.fromhex(mac.replace(":", ""))), _number(_MTU, mtu)]
    pair = _attribute(_PEER, _link() + b"".join([*inside, _number(_NAMESPACE, namespace)]))
    info = _attribute(_INFO, _text(_KIND, "veth") + _attribute(_DATA, pair))
    quiet = _attribute(_SPEC, _attribute(socket.AF_INET6, _attribute(_GENERATION_MODE, bytes([_NO_ADDRESS]))))
    port = b"" if master is None else _number(_MASTER, master) + quiet
    await _talk(
        [
            (_NEWLINK, _CREATE | _EXCLUSIVE, _link() + _text(_NAME, host) + _number(_MTU, mtu) + info),
            (_SETLINK, 0, _link(up=True) + _text(_NAME, host) + port),
        ]
    )


async def delete(links: Sequence[str]) -> None:
    """Delete links, both ends of a pair. Raises OSError, ENODEV if one does not exist; the others are deleted."""
    await _talk([(_DELLINK, 0, _link() + _text(_NAME, link)) for link in links])


async def _talk(requests: Sequence[tuple[int, int, bytes]]) -> None:
    # Created here and not in the thread: a socket belongs to the network namespace of the thread that creates it.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_PATIENCE)
        await in_thread(_ask, kernel, requests)


def _ask(kernel: socket.socket, requests: Sequence[tuple[int, int, bytes]]) -> None:
    """Send requests one after the other, also after one has failed. Raises the first error."""
    failed = 0
    for kind, flags, body in requests:
        if failed and kind == _SETLINK:
            break  # the link to configure does not exist
        kernel.send(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body)
        answer = kernel.recv(_ANSWER)
        _, answered, *_ = struct.unpack_from("=IHHII", answer)
        (code,) = struct.unpack_from("=i", answer, 16)
        if answered != _ERROR:
            raise OSError(71, "the kernel's response is invalid")
        failed = failed or -code
    if failed:
        raise OSError(failed, os.strerror(failed))


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
