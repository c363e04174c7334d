"""An archive that is unpacked while it arrives, by a process that is made ready before the first byte is there.

The daemon passes the stream on as it comes, through a socket whose end is the end of the archive.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from isola.errors import InvalidInput
from isola.host import cell
from isola.host.archive import packed, untar
from isola.host.archive.answers import Answer
from isola.host.archive.forked import Forked
from isola.host.archive.requesting import ask
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
        return packed.compression(self._head)

    def read(self, size: int = -1, /) -> bytes:
        """At least a byte and at most ``size``; empty at the end."""
        data, self._head = self._head[:size], self._head[size:]
        data = data or os.read(self._descriptor, size)
        self.total += len(data)
        return data


def unpack(place: Cell, descriptor: int, limits: Mapping[str, int], most: int) -> bytes:
    """What the process does. However long the archive takes to arrive; ``most`` are bytes of the plain stream."""
    source = Arriving(descriptor)

    def work(inside: Inside) -> Mapping[str, object]:
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

    return cell.start(place, work).result()


async def received(forked: Forked, blocks: AsyncIterator[bytes], target: Path, limits: Mapping[str, int]) -> Answer:
    """Have it unpacked into ``target``. A client that still sends does not read an error: the rest is dropped first."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        request = {"target": str(target), "limits": limits}
        asking = asyncio.ensure_future(ask(forked, VERB, request, descriptor=theirs.detach()))
        try:
            await _passed_on(blocks, ours)
            return await asking
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def _passed_on(blocks: AsyncIterator[bytes], end: socket.socket) -> None:
    """All of them; once the process does not take more, the rest is read and dropped."""
    loop, taken = asyncio.get_running_loop(), True
    async for block in blocks:
        if taken:
            taken = await _sent(loop, end, block)
    if taken:
        end.shutdown(socket.SHUT_WR)


async def _sent(loop: asyncio.AbstractEventLoop, end: socket.socket, block: bytes) -> bool:
    try:
        await loop.sock_sendall(end, block)
    except OSError:
        return False  # the process has ended
    return True
