"""What a viewer of a screen says first."""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

_MAIN = struct.pack("<4sIII", b"REDQ", 2, 2, 18) + struct.pack("<IBBIII", 0, 1, 0, 0, 0, 18)
"""How it begins its main channel."""


def shakes_hands(path: Path) -> bool:
    """Whether a SPICE server is behind this socket."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(30)
        link.connect(str(path))
        link.sendall(_MAIN)
        return link.recv(4) == b"REDQ"


if __name__ == "__main__":
    # A stand-in for a viewer: RESULT ADDRESS
    result, address = sys.argv[1], sys.argv[-1]
    screen = Path(address.removeprefix("spice+unix://"))
    Path(result).write_text(f"{shakes_hands(screen)} {shakes_hands(screen)}", encoding="utf-8")
