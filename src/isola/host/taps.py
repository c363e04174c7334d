"""Opens the descriptor of an existing tap, by which a hypervisor sends and receives its frames."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

_TUNSETIFF = 0x400454CA
_TAP, _NO_PACKET_INFO, _VNET_HEADER = 0x0002, 0x1000, 0x4000


def open_tap(name: str) -> int:
    """In the network namespace of this thread; frames begin with a virtio header. Raises OSError."""
    # One that does not exist would be created. /sys may show the links of another network namespace.
    try:
        socket.if_nametoindex(name)
    except OSError as error:
        raise FileNotFoundError(errno.ENOENT, "there is no tap of this name", name) from error
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        request = struct.pack("16sH22x", name.encode(), _TAP | _NO_PACKET_INFO | _VNET_HEADER)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
