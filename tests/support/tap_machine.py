"""A virtual machine's end of a tap: what leaves the guest's network namespace goes to the tap, and the reverse."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Iterator

from netns import Guest

_TUNSETIFF, _TAP = 0x400454CA, 0x0002 | 0x1000
_RELAY = """
import fcntl, os, select, struct, subprocess, sys
near, mac = int(sys.argv[1]), sys.argv[2]
far = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(far, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x1002))
subprocess.run(["ip", "link", "set", "eth0", "address", mac], check=True)
print("ready", flush=True)
while True:
    for ready in select.select([near, far], [], [])[0]:
        frame = os.read(ready, 65536)
        try:
            os.write(far if ready == near else near, frame)
        except OSError:
            pass  # the interface is down
"""


@contextlib.contextmanager
def plugged(guest: Guest, tap: str, mac: str) -> Iterator[None]:
    """The guest's ``eth0`` is the other end of a tap of the test's namespace, as under a hypervisor."""
    near = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(near, _TUNSETIFF, struct.pack("16sH22x", tap.encode(), _TAP))
        argv = guest.command(sys.executable, "-c", _RELAY, str(near), mac)
        relay = subprocess.Popen(argv, pass_fds=[near], stdout=subprocess.PIPE)
    finally:
        os.close(near)
    try:
        assert relay.stdout is not None and relay.stdout.readline() == b"ready\n"
        yield
    finally:
        relay.kill()
        relay.communicate()
