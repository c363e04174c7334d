"""Taps: they are made to last, and opened by hypervisors, which send and receive their frames by the descriptor."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST, _TUNSETOWNER = 0x400454CB, 0x400454CC
_TAP, _NO_PACKET_INFO, _VNET_HEADER, _NEW = 0x0002, 0x1000, 0x4000, 0x8000
_CONTROL = "/dev/net/tun"


def opened() -> int:
    """For ``make``: a descriptor of the network namespace of this thread. Raises OSError."""
    return os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)


def make(control: int, name: str, owner: int) -> None:
    """A new tap, down, which its owner may open, and which stays. Closes the descriptor. Raises OSError."""
    try:
        fcntl.ioctl(control, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_PACKET_INFO | _NEW))
        fcntl.ioctl(control, _TUNSETOWNER, struct.unpack("=i", struct.pack("=I", owner))[0])
        fcntl.ioctl(control, _TUNSETPERSIST, 1)
    finally:
        os.close(control)


def open_tap(name: str) -> int:
    """In the network namespace of this thread; frames begin with a virtio header. Raises OSError."""
    # One that does not exist would be created. /sys may show the links of another network namespace.
    try:
        socket.if_nametoindex(name)
    except OSError as error:
        raise FileNotFoundError(errno.ENOENT, "there is no tap of this name", name) from error
    descriptor = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        request = struct.pack("16sH22x", name.encode(), _TAP | _NO_PACKET_INFO | _VNET_HEADER)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
