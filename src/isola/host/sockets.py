"""Pseudo-terminals, pipes and the sockets of the engines, as asyncio streams over file descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

from isola.errors import HostFailure, NotFound, TimedOut
from isola.host.inotify import changes
from isola.host.stream import DescriptorStream
from isola.host.terminals import LinuxOffer, LinuxTerminal

_CONNECT_PATIENCE = 5.0
_BLOCK = 65536


class Stream(Protocol):
    """Our end of a pipe, terminal or socket. Closing twice is fine."""

    async def read(self) -> bytes:
        """The next block, at most 64 KiB; empty at the end (also when a terminal hangs up, or after ``close``).

        Of a packet socket each block is one packet. One reader at a time.
        """
        ...

    async def write(self, data: bytes) -> None:
        """All of it; BrokenPipe at the other end is silently the end. One writer at a time.

        To a packet socket it goes in packets of at most 8 KiB.
        """
        ...

    def close(self) -> None: ...


class Packets(Stream, Protocol):
    """Our end of a packet socket."""

    def end(self) -> None:
        """The other end reads EOF after what was written; reading is still possible. No effect if it is closed."""
        ...


class Terminal(Protocol):
    """A pseudo-terminal: ``stream`` is the master side, ``slave`` a descriptor to hand to a child."""

    @property
    def stream(self) -> Stream: ...

    @property
    def slave(self) -> int: ...

    def resize(self, width: int, height: int) -> None: ...

    def close_slave(self) -> None:
        """After the child has it."""
        ...


class Pipe(Protocol):
    """A pipe with one end ours (``stream``) and the other a descriptor for a child."""

    @property
    def stream(self) -> Stream: ...

    @property
    def remote(self) -> int: ...

    def close_remote(self) -> None: ...


class Offer(Protocol):
    """A terminal that a program is going to make and hand over."""

    @property
    def path(self) -> Path:
        """Where the program connects."""
        ...

    async def receive(self) -> Terminal:
        """The terminal, without a slave; waits for the program. Raises HostFailure when it sends something else."""
        ...

    def close(self) -> None:
        """Stop waiting; what was received stays. Closing twice is fine."""
        ...


class Sockets(Protocol):
    """Opens streams."""

    def terminal(self, width: int = 0, height: int = 0, *, owner: int | None = None, raw: bool = False) -> Terminal:
        """A new pseudo-terminal (80x25 where no size is given); ``owner`` is the host id that owns the slave.

        With ``raw`` it neither echoes nor changes what passes.
        """
        ...

    def offer(self, path: Path) -> Offer:
        """Wait at ``path``, however long it is, for a program to hand over a terminal. Raises HostFailure."""
        ...

    def pipe_to_child(self) -> Pipe:
        """We write, the child reads."""
        ...

    def pipe_from_child(self) -> Pipe:
        """The child writes, we read."""
        ...

    async def connect_packets(self, path: Path) -> Packets:
        """Connect to a SOCK_SEQPACKET Unix socket (conmon's ``attach``), however long its path is."""
        ...

    def post(self, path: Path, message: bytes, *, once: bool = False) -> bool:
        """Write a short message to a FIFO; False if it has no reader. With ``once`` its name is removed before."""
        ...

    def follow(self, path: Path) -> AsyncGenerator[bytes, None]:
        """Blocks of a growing file from its beginning, ending only when cancelled. Costs no polling.

        The file need not be there yet, its directory must. A file that is truncated or replaced is followed from the
        beginning again. Raises NotFound.
        """
        ...


class LinuxPipe:
    """A pipe; only our end does not block."""

    def __init__(self, ours: int, remote: int) -> None:
        self._stream = DescriptorStream(ours)
        self._remote = remote

    @property
    def stream(self) -> Stream:
        """Our end."""
        return self._stream

    @property
    def remote(self) -> int:
        """The child's end."""
        return self._remote

    def close_remote(self) -> None:
        """After the child has it."""
        if self._remote >= 0:
            os.close(self._remote)
            self._remote = -1


class LinuxSockets:
    """Descriptors that do not block, driven by the event loop."""

    def terminal(self, width: int = 0, height: int = 0, *, owner: int | None = None, raw: bool = False) -> Terminal:
        """A new pseudo-terminal."""
        return LinuxTerminal.open(width, height, owner, raw=raw)

    def offer(self, path: Path) -> Offer:
        """Wait for a program to hand over a terminal."""
        return LinuxOffer(path)

    def pipe_to_child(self) -> Pipe:
        """We write, the child reads."""
        reader, writer = os.pipe()
        return LinuxPipe(writer, reader)

    def pipe_from_child(self) -> Pipe:
        """The child writes, we read."""
        reader, writer = os.pipe()
        return LinuxPipe(reader, writer)

    async def connect_packets(self, path: Path) -> Packets:
        """Connect to a SOCK_SEQPACKET Unix socket. Raises NotFound, HostFailure, TimedOut."""
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"There is no socket {path}") from None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            # A socket's address holds 107 bytes; through the descriptor the length of the path does not matter.
            await _connect(connection, f"/proc/self/fd/{place}", path)
            return DescriptorStream(connection.detach(), packet=8192)
        finally:
            connection.close()
            os.close(place)

    def post(self, path: Path, message: bytes, *, once: bool = False) -> bool:
        """Put a short message into a FIFO."""
        try:
            fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # no reader (ENXIO), or no FIFO (ENOENT)
            return False
        try:
            if not stat.S_ISFIFO(os.fstat(fifo).st_mode):
                return False
            if once:
                path.unlink()
            return os.write(fifo, message) == len(message)
        except OSError:
            return False
        finally:
            os.close(fifo)

    async def follow(self, path: Path) -> AsyncGenerator[bytes, None]:
        """Blocks of a growing file."""
        reader = _Reader(path)
        try:
            async with contextlib.aclosing(changes(path)) as changed:
                async for _ in changed:
                    while block := reader.read():
                        yield block
        finally:
            reader.close()


class _Reader:
    """Continues reading a file, and starts again if it was replaced or truncated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def read(self) -> bytes:
        if self._fd < 0 and not self._open():
            return b""
        if os.fstat(self._fd).st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            os.lseek(self._fd, 0, os.SEEK_SET)
        block = os.read(self._fd, _BLOCK)
        if not block and self._replaced():
            self.close()
            return self.read()
        return block

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        return True

    def _replaced(self) -> bool:
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except FileNotFoundError:
            return False


async def _connect(connection: socket.socket, address: str, path: Path) -> None:
    for _ in range(int(_CONNECT_PATIENCE / 0.02)):
        try:
            return connection.connect(address)
        except BlockingIOError:  # its queue of connections is full; the kernel does not tell when that changes
            await asyncio.sleep(0.02)
        except OSError as error:
            remedy = "Its owner has ended" if error.errno == errno.ECONNREFUSED else ""
            raise HostFailure(f"Cannot connect to {path}", evidence=str(error), remedy=remedy) from error
    raise TimedOut(f"The owner of {path} does not accept connections")
