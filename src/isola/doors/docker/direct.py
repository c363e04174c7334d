"""The socket of clients that speak BuildKit's protocol from the first byte on: HTTP/2 without an upgrade."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from isola.doors.http.unix import BACKLOG, caller_at, inode_of, listen

if TYPE_CHECKING:
    from isola.doors.docker.dispatch import Dispatcher

_READ_AHEAD = 64 << 10
_END_SECONDS = 1.0


class DirectLink:
    """Bytes of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, size: int) -> bytes:
        """Exactly so many. Raises EOFError, ConnectionError."""
        try:
            return await self._reader.readexactly(size)
        except OSError as error:
            raise ConnectionResetError(str(error)) from error

    async def write(self, data: bytes) -> None:
        """Waits while the peer is slow. Raises ConnectionError."""
        if self._writer.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(data)
        try:
            await self._writer.drain()
        except OSError as error:
            raise ConnectionResetError(str(error)) from error


class DirectServer:
    """A listening server; closing it ends all connections."""

    def __init__(self, door: Dispatcher, path: Path) -> None:
        self._door = door
        self._path = path
        self._inode = (0, 0)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def open(self) -> None:
        """Raises HostFailure when another daemon answers there."""
        listener = await asyncio.to_thread(listen, self._path)
        # A backlog of one first, for the reason that ``serve_unix`` has.
        self._server = await asyncio.start_unix_server(self._accepted, sock=listener, backlog=1, limit=_READ_AHEAD)
        listener.listen(BACKLOG)
        self._inode = inode_of(self._path)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            with suppress(asyncio.CancelledError):  # by the end of the door: asyncio would log it
                await self._door.converse(DirectLink(reader, writer), caller_at(writer.transport))
        finally:
            del self._connections[task]
            writer.close()

    async def close(self) -> None:
        """Stop accepting connections, end those that there are, and remove the socket unless it was replaced."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_END_SECONDS) if tasks else None
        with suppress(FileNotFoundError):
            if inode_of(self._path) == self._inode:
                self._path.unlink()

    def abort(self) -> None:
        """As the end of the process does."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections.values():
            writer.transport.abort()


async def serve_direct(door: Dispatcher, path: Path) -> DirectServer:
    """Raises HostFailure when another daemon answers there."""
    made = DirectServer(door, path)
    await made.open()
    return made
