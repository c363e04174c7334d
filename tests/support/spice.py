"""What a viewer of a screen says first."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAIN = struct.pack("<4sIII", b"REDQ", 2, 2, 18) + struct.pack("<IBBIII", 0, 1, 0, 0, 0, 18)
"""How it begins its main channel."""


@contextmanager
def greeted(path: Path) -> Iterator[bool]:
    """An open connection: whether a SPICE server is behind this socket."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(120)
        link.connect(str(path))
        link.sendall(_MAIN)
        yield link.recv(4, socket.MSG_WAITALL) == b"REDQ"


def shakes_hands(path: Path) -> bool:
    """The same, closed."""
    with greeted(path) as answered:
        return answered


if __name__ == "__main__":
    # A stand-in for a viewer: RESULT ADDRESS
    result, address = sys.argv[1], sys.argv[-1]
    screen = Path(address.removeprefix("spice+unix://"))
    # Clients end their viewer when it has no connection, so the first one stays until all is done.
    with greeted(screen) as first, greeted(screen) as second:
        Path(result).write_text(f"{first} {second}", encoding="utf-8")
