"""An archive that is taken apart while it arrives: large members become files of their own, with their digests.

The headers are parsed by a confined process, which asks for bytes of the stream, and says how many that follow belong
to a member; these it never gets. What it asks for is as untrusted as the archive.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from isola.errors import HostFailure, InvalidInput, IsolaError, UnsafeArchive
from isola.host.archive.asking import KEEP, READ, REQUEST, SIZE
from isola.host.archive.members import Apart
from isola.host.exhaustion import host_refused
from isola.host.threads import Work, in_long_thread, in_thread

LARGE = 64 << 10
"""Bytes from which a member becomes a file."""
_LONGEST_READ = 2 << 20
_PIECE = 4 << 20
_MOST_BLOCKS = 512
"""Blocks that are written at once."""
_TIMEOUT = 300.0
"""Seconds that the process may take for a header."""


class Incoming:
    """A stream in blocks of any size."""

    def __init__(self, blocks: AsyncIterator[bytes]) -> None:
        self._blocks = blocks
        self._block = memoryview(b"")

    async def some(self, most: int) -> memoryview:
        """At least a byte and at most ``most``; empty at the end."""
        while not self._block:
            block = await anext(self._blocks, None)
            if block is None:
                return self._block
            self._block = memoryview(block)
        found, self._block = self._block[:most], self._block[most:]
        return found

    async def start(self, size: int) -> bytes:
        """The first bytes, which are still to come afterwards."""
        found = await self.take(size)
        self._block = memoryview(found + bytes(self._block))
        return found

    async def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or fewer at the end."""
        found = bytearray()
        while len(found) < size and (block := await self.some(size - len(found))):
            found += block
        return bytes(found)

    async def pieces(self, size: int) -> AsyncIterator[Sequence[memoryview]]:
        """The next ``size`` bytes, or fewer at the end, in blocks to be written at once."""
        left = size
        while left:
            found, length = list[memoryview](), 0
            while length < min(left, _PIECE) and len(found) < _MOST_BLOCKS:
                block = await self.some(min(left, _PIECE) - length)
                if not block:
                    break
                found.append(block)
                length += len(block)
            if not found:
                return
            left -= length
            yield found

    async def drain(self) -> None:
        """Drop the rest, because a client that still sends does not read the answer."""
        while await self.some(_PIECE):
            pass


class Receiving:
    """What arrives, in ``directory``: ``documents`` has all small members at their places."""

    def __init__(self, incoming: Incoming, directory: Path) -> None:
        self.documents = directory / "documents"
        self.apart: dict[int, Apart] = {}
        self._incoming = incoming
        self._directory = directory
        self._position = 0

    async def serve(self, end: socket.socket) -> None:
        """Answer the process until it has closed its end. Raises HostFailure, UnsafeArchive."""
        loop = asyncio.get_running_loop()
        await in_thread(self.documents.touch)
        while request := await _request(loop, end):
            kind, size, padding = REQUEST.unpack(request)
            if kind == READ and size <= _LONGEST_READ:
                data = await self._incoming.take(size)
                self._position += len(data)
                answer = SIZE.pack(len(data)) + data
            elif kind == KEEP and size < 1 << 62 and padding < 512:
                kept = await self._keep(size)
                kept += len(await self._incoming.take(padding))
                self._position += kept
                answer = SIZE.pack(kept)
            else:
                raise HostFailure("The process that reads archives made an invalid request")
            try:
                await loop.sock_sendall(end, answer)
            except OSError:
                return  # it has ended

    async def _keep(self, size: int) -> int:
        if size >= LARGE:
            path = self._directory / f"member-{self._position}"
            kept, digest = await write(self._incoming, size, path)
            self.apart[self._position] = Apart(path, kept, digest)
            return kept
        data = await self._incoming.take(size)
        await in_thread(_written_at, self.documents, data, self._position)
        return len(data)


async def write(incoming: Incoming, size: int, path: Path) -> tuple[int, str]:
    """The next ``size`` bytes as a new file, which is not synced; their number and digest.

    While a piece is written the next one arrives. Raises HostFailure.
    """
    file = await in_thread(_File, path)
    writing: asyncio.Future[None] | None = None
    try:
        async for piece in incoming.pieces(size):
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(in_long_thread(Work.COPY, file.add, piece))
        if writing is not None:
            await writing
    finally:
        if writing is not None:
            await asyncio.wait([writing])
        await in_thread(file.close)
    return file.size, f"sha256:{file.total.hexdigest()}"


class _File:
    def __init__(self, path: Path) -> None:
        self.size = 0
        self.total = hashlib.sha256()
        self._descriptor = _opened(path, os.O_EXCL | os.O_CREAT)

    def add(self, blocks: Sequence[memoryview]) -> None:
        for block in blocks:
            self.total.update(block)
        rest = list(blocks)
        with _storing():
            while rest:
                written = os.writev(self._descriptor, rest)
                self.size += written
                while rest and written >= len(rest[0]):
                    written -= len(rest.pop(0))
                if written:
                    rest[0] = rest[0][written:]

    def close(self) -> None:
        os.close(self._descriptor)


def _written_at(path: Path, data: bytes, position: int) -> None:
    if not data:
        return
    descriptor = _opened(path, 0)
    rest = memoryview(data)
    try:
        with _storing():
            while rest:
                written = os.pwrite(descriptor, rest, position)
                rest, position = rest[written:], position + written
    finally:
        os.close(descriptor)


def _opened(path: Path, flags: int) -> int:
    with _storing():
        return os.open(path, flags | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise host_refused("The archive cannot be stored", error) from error


async def _request(loop: asyncio.AbstractEventLoop, end: socket.socket) -> bytes:
    """The next one; empty at the end."""
    found = b""
    try:
        async with asyncio.timeout(_TIMEOUT):
            while len(found) < REQUEST.size and (data := await loop.sock_recv(end, REQUEST.size - len(found))):
                found += data
    except TimeoutError:
        raise UnsafeArchive("The archive exceeds the limits on time or memory", evidence="a header") from None
    except OSError:
        found = b""
    return found if len(found) == REQUEST.size else b""


async def refused(incoming: Incoming, error: BaseException) -> None:
    """Read the rest, if an error is to be answered."""
    if isinstance(error, IsolaError):
        try:
            await incoming.drain()
        except InvalidInput:
            return  # the client has gone
