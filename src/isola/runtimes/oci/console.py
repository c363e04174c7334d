"""The console as conmon gives it: a socket of packets, and a log of lines with a time before each."""

from __future__ import annotations

from isola.host.sockets import Stream

_SHOWN = 1 << 20


class Console:
    """A terminal over conmon's attach socket: each packet that comes begins with the number of its stream."""

    def __init__(self, packets: Stream) -> None:
        self._packets = packets

    async def read(self) -> bytes:
        """The next block; empty at the end."""
        while packet := await self._packets.read():
            if len(packet) > 1:
                return packet[1:]
        return b""

    async def write(self, data: bytes) -> None:
        """Type."""
        await self._packets.write(data)

    def close(self) -> None:
        """Detach."""
        self._packets.close()


def raw(log: bytes) -> bytes:
    """What the console showed, from conmon's log: ``TIME STREAM F|P CONTENT``, where P ends no line. The last MiB."""
    parts = []
    for line in log.split(b"\n"):
        fields = line.split(b" ", 3)
        if len(fields) == 4 and fields[2] in (b"F", b"P"):
            parts.append(fields[3] + (b"\n" if fields[2] == b"F" else b""))
    return b"".join(parts)[-_SHOWN:]
