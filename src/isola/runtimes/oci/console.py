"""conmon's console: a packet socket, and a log in which each line has a time stamp."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from isola.host.sockets import Packets, Stream
from isola.runtimes.output import Channel, LogLine

_SHOWN = 1 << 20
_CHANNELS = {2: Channel.STDOUT, 3: Channel.STDERR}
"""By the number that each packet begins with."""


class Console:
    """A terminal over conmon's attach socket: each received packet begins with the number of its stream."""

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


class Attached:
    """The same with its streams kept apart. Packets that are written are the input."""

    def __init__(self, packets: Packets, park: Callable[[Packets], None]) -> None:
        """``park`` keeps a connection that is not used any more until the run ends."""
        self._packets = packets
        self._park = park

    async def read(self) -> tuple[Channel, bytes] | None:
        """The next block; None at the end."""
        while packet := await self._packets.read():
            if len(packet) > 1 and packet[0] in _CHANNELS:
                return _CHANNELS[packet[0]], packet[1:]
        return None

    async def write(self, data: bytes) -> None:
        """To the input."""
        await self._packets.write(data)

    def end_input(self) -> None:
        """conmon closes the input when a client has ended its side."""
        self._packets.end()

    def close(self, *, keep_input: bool = False) -> None:
        """conmon also closes the input when a client has closed its connection."""
        if keep_input:
            self._park(self._packets)
        else:
            self._packets.close()


def lines(log: bytes) -> tuple[LogLine, ...]:
    """conmon's log line by line; what cannot be read is left out. The last MiB. Pure."""
    found, size = list[LogLine](), 0
    for line in reversed(log.split(b"\n")):
        fields = line.split(b" ", 3)
        if len(fields) != 4 or fields[2] not in (b"F", b"P"):
            continue
        try:
            at = datetime.fromisoformat(fields[0].decode()).astimezone(UTC)
            channel = Channel(fields[1].decode())
        except ValueError:
            continue
        data = fields[3] + (b"\n" if fields[2] == b"F" else b"")
        size += len(data)
        if size > _SHOWN:
            break
        found.append(LogLine(at, channel, data))
    return tuple(reversed(found))


def raw(log: bytes) -> bytes:
    """Raw output (the last MiB) from conmon's log: ``TIME STREAM F|P CONTENT``, where P is a partial line."""
    parts = []
    for line in log.split(b"\n"):
        fields = line.split(b" ", 3)
        if len(fields) == 4 and fields[2] in (b"F", b"P"):
            parts.append(fields[3] + (b"\n" if fields[2] == b"F" else b""))
    return b"".join(parts)[-_SHOWN:]
