"""An archive that is unpacked while it arrives, by a process that is made ready before the first byte is there.

The daemon passes the stream on as it comes, through a socket whose end is the end of the archive.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping

from isola.errors import InvalidInput
from isola.host import cell
from isola.host.archive import formats, packed, untar
from isola.host.archive.tarstream import TarStream
from isola.host.cell import Cell, Inside

VERB = "unpack_stream"
_HEAD = 8
"""Bytes that tell how an archive is compressed."""


class Arriving:
    """The reading end, in the cell."""

    def __init__(self, descriptor: int) -> None:
        self.total = 0
        """Bytes that were read."""
        self._descriptor = descriptor
        self._head = b""

    def compression(self) -> str:
        """How it is compressed; called before the first read."""
        while len(self._head) < _HEAD and (data := os.read(self._descriptor, _HEAD - len(self._head))):
            self._head += data
        return formats.compression(self._head)

    def read(self, size: int = -1, /) -> bytes:
        """At least a byte and at most ``size``; empty at the end."""
        data, self._head = self._head[:size], self._head[size:]
        data = data or os.read(self._descriptor, size)
        self.total += len(data)
        return data


def start(place: Cell, archive: int, limits: Mapping[str, int], most: int, to: tuple[int, int]) -> int:
    """Start the process, however long the archive takes to arrive; ``most`` are bytes of the plain stream.

    Returns its id. ``to`` are descriptors for its result and for its standard error. Raises HostFailure.
    """
    source = Arriving(archive)

    def work(inside: Inside) -> Mapping[str, object]:
        gc.enable()
        kind = source.compression()
        if kind == "squashfs":
            raise InvalidInput("The archive is a squashfs image", remedy="send a tar archive")
        unpacking = untar.Unpacking(
            subtree="", make_opaque=None, limit_bytes=limits["bytes"], limit_entries=limits["entries"]
        )
        blocks = packed.unpacked(source, kind)
        content = packed.Unpacked(blocks, lambda: source.total, limit=most, ratio=limits["ratio"])
        unpacking.run(TarStream(content.read))
        content.drain()
        return {"entries": unpacking.entries, "bytes": unpacking.bytes, "skipped": unpacking.skipped}

    return cell.start_alone(place, work, *to)
