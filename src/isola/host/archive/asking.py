"""How the confined process that lists an archive reads a stream of which it does not get the contents of members."""

from __future__ import annotations

import socket
import struct

from isola.errors import HostFailure, InvalidInput

REQUEST = struct.Struct("<cQQ")
"""``READ`` and a number of bytes, or ``KEEP``, the size of a member's content and that of the padding after it."""
READ, KEEP = b"r", b"k"
SIZE = struct.Struct("<Q")
"""The answer: how many bytes there are, fewer only at the end of the stream, and for ``READ`` the bytes."""


class Asking:
    """Reads the stream by requests."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or fewer at the end."""
        self._end.sendall(REQUEST.pack(READ, size, 0))
        return self._exactly(self._number())

    def keep(self, size: int, padding: int) -> None:
        """Have the content of a member kept. Raises InvalidInput if it is not all there."""
        self._end.sendall(REQUEST.pack(KEEP, size, padding))
        if self._number() != size + padding:
            raise InvalidInput("The archive is truncated", evidence="a file ends after the end of the archive")

    def _number(self) -> int:
        return int(SIZE.unpack(self._exactly(SIZE.size))[0])

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            data = self._end.recv(size - len(found))
            if not data:
                raise HostFailure("The stream ended")
            found += data
        return bytes(found)
