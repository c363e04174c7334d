"""A file descriptor as an asyncio stream, without a transport."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable

_BLOCK = 65536
_HANGUPS = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.ENOTCONN, errno.ESHUTDOWN})
"""Errors that mean that the other end is closed; of a terminal, EIO."""


class DescriptorStream:
    """Owns the descriptor. ``packet`` is the maximum number of bytes per ``write(2)``."""

    def __init__(self, fd: int, packet: int | None = None) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._packet = packet
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def fd(self) -> int:
        """The descriptor, or -1 when closed."""
        return self._fd

    async def read(self) -> bytes:
        """The next block; empty at EOF."""
        # A stream that always has data must not starve other tasks.
        await asyncio.sleep(0)
        while self._fd >= 0:
            try:
                return os.read(self._fd, _BLOCK)
            except BlockingIOError:
                await self._wait(self._loop.add_reader, self._loop.remove_reader)
            except OSError as error:
                if error.errno in _HANGUPS:
                    return b""
                raise
        return b""

    async def write(self, data: bytes) -> None:
        """Write all data; if the other end is closed, the rest is discarded."""
        view = memoryview(data)
        while view and self._fd >= 0:
            try:
                view = view[os.write(self._fd, view[: self._packet]) :]
            except BlockingIOError:
                await self._wait(self._loop.add_writer, self._loop.remove_writer)
            except OSError as error:
                if error.errno in _HANGUPS:
                    return
                raise

    def end(self) -> None:
        """Shut down writing of a socket."""
        if self._fd >= 0:
            with socket.socket(fileno=os.dup(self._fd)) as same, contextlib.suppress(OSError):
                same.shutdown(socket.SHUT_WR)

    def pause(self) -> None:
        """Shut down reading of a socket."""
        if self._fd >= 0:
            with socket.socket(fileno=os.dup(self._fd)) as same, contextlib.suppress(OSError):
                same.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close the descriptor; a pending read returns EOF."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        os.close(self._fd)
        self._fd = -1
        for waiting in self._waiting:
            _wake(waiting)

    async def _wait(
        self,
        add: Callable[[int, Callable[[asyncio.Future[None]], None], asyncio.Future[None]], None],
        remove: Callable[[int], bool],
    ) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(ready)
        add(self._fd, _wake, ready)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._fd >= 0:
                remove(self._fd)


class SocketStream(DescriptorStream):
    """Can pass descriptors to the process at the other end."""

    async def send_descriptor(self, data: bytes, descriptor: int) -> None:
        """Write all data, and pass a copy of an open descriptor with its first byte."""
        while self._fd >= 0:
            try:
                with socket.socket(fileno=os.dup(self._fd)) as same:
                    sent = socket.send_fds(same, [data], [descriptor])
                return await self.write(data[sent:])
            except BlockingIOError:
                await self._wait(self._loop.add_writer, self._loop.remove_writer)
            except OSError as error:
                if error.errno in _HANGUPS:
                    return
                raise


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
