"""Opens the descriptor of an existing tap, by which a hypervisor sends and receives its frames."""

from __future__ import annotations

import fcntl
import os
import struct

_TUNSETIFF = 0x400454CA
_TAP, _NO_PACKET_INFO, _VNET_HEADER = 0x0002, 0x1000, 0x4000


def open_tap(name: str) -> int:
    """In the network namespace of this thread; frames begin with a virtio header. Raises OSError."""
    if not os.path.exists(f"/sys/class/net/{name}/tun_flags"):
        raise FileNotFoundError(2, "there is no tap of this name", name)  # it would be created
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        request = struct.pack("16sH22x", name.encode(), _TAP | _NO_PACKET_INFO | _VNET_HEADER)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
