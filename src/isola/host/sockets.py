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
from isola.host.accepting import LinuxListener
from isola.host.inotify import changes
from isola.host.stream import DescriptorStream, SocketStream
from isola.host.terminals import LinuxOffer, LinuxTerminal

_CONNECT_TIMEOUT = 5.0
_BLOCK = 65536
_FREEBIND4, _FREEBIND6 = 15, 78
"""Socket options IP_FREEBIND and IPV6_FREEBIND."""


class Stream(Protocol):
    """The daemon's end of a pipe, terminal or socket. ``close`` may be called twice."""

    async def read(self) -> bytes:
        """The next block, at most 64 KiB; empty at EOF, when a terminal hangs up, and after ``close``.

        A packet socket returns one packet per call. One reader at a time.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Write all data; if the other end is closed, the rest is discarded. One writer at a time.

        A packet socket gets packets of at most 8 KiB.
        """
        ...

    def close(self) -> None: ...


class Packets(Stream, Protocol):
    """The daemon's end of a packet socket."""

    def end(self) -> None:
        """Shut down writing: the other end reads EOF after the data. Reading is still possible. No effect if closed."""
        ...

    def pause(self) -> None:
        """Shut down reading: what the other end writes is refused, and it does not wait. No effect if closed."""
        ...


class Connection(Stream, Protocol):
    """The daemon's end of a stream socket."""

    async def send_descriptor(self, data: bytes, descriptor: int) -> None:
        """Write all data, and pass a copy of an open descriptor with its first byte."""
        ...


class Terminal(Protocol):
    """A pseudo-terminal: ``stream`` is the master side, ``slave`` a descriptor for a child."""

    @property
    def stream(self) -> Stream: ...

    @property
    def slave(self) -> int: ...

    def resize(self, width: int, height: int) -> None: ...

    def close_slave(self) -> None:
        """Call it after the child has inherited the descriptor."""
        ...


class Pipe(Protocol):
    """A pipe: ``stream`` is the daemon's end, ``remote`` a descriptor for a child."""

    @property
    def stream(self) -> Stream: ...

    @property
    def remote(self) -> int: ...

    def close_remote(self) -> None: ...


class Offer(Protocol):
    """A socket on which a program will pass the master of a terminal that it creates."""

    @property
    def path(self) -> Path:
        """Where the program connects."""
        ...

    async def receive(self) -> Terminal:
        """Wait for the program. The terminal has no ``slave``. Raises HostFailure if something else is sent."""
        ...

    def close(self) -> None:
        """Stop listening; a received terminal stays open. May be called twice."""
        ...


class Listener(Protocol):
    """A socket on which programs connect."""

    async def accept(self) -> Stream:
        """The next connection."""
        ...

    def close(self) -> None:
        """Stop listening and remove the socket; streams stay open. May be called twice."""
        ...


class Sockets(Protocol):
    """Opens streams."""

    def terminal(self, width: int = 0, height: int = 0, *, owner: int | None = None, raw: bool = False) -> Terminal:
        """A new pseudo-terminal, 80x25 if no size is given; ``owner`` is the host id that owns the slave.

        With ``raw`` it is in raw mode: no echo, no line editing.
        """
        ...

    def offer(self, path: Path) -> Offer:
        """Listen on ``path``, which may be longer than 107 bytes, for a program's terminal. Raises HostFailure."""
        ...

    def listener(self, path: Path, *, mode: int, uid: int, gid: int) -> Listener:
        """Listen on a new socket with these permissions. Raises HostFailure."""
        ...

    def pipe_to_child(self) -> Pipe:
        """The daemon writes, the child reads."""
        ...

    def pipe_from_child(self) -> Pipe:
        """The child writes, the daemon reads."""
        ...

    def pair_with_child(self) -> Pipe:
        """A connection: both ends read and write."""
        ...

    def free_port(self, address: str, *, udp: bool) -> int:
        """A port on which nothing listens now, of those that the kernel chooses itself. Raises HostFailure."""
        ...

    async def connect_packets(self, path: Path) -> Packets:
        """Connect to a SOCK_SEQPACKET Unix socket (conmon's ``attach``); the path may be longer than 107 bytes."""
        ...

    async def connect(self, path: Path) -> Connection:
        """Connect to a SOCK_STREAM Unix socket; the path may be longer than 107 bytes.

        Raises NotFound, HostFailure, TimedOut.
        """
        ...

    async def reach(self, address: str, port: int) -> Stream:
        """Connect to a TCP port of an IP address; waits as long as the kernel does. Raises HostFailure."""
        ...

    def post(self, path: Path, message: bytes, *, once: bool = False) -> bool:
        """Write a short message to a FIFO; False if it has no reader. With ``once`` the FIFO is removed first."""
        ...

    def follow(self, path: Path) -> AsyncGenerator[bytes, None]:
        """Blocks of a growing file from its beginning, until cancelled. Uses inotify, not polling.

        The file may be missing at first, its directory must exist. A truncated or replaced file is read from the
        beginning again. Raises NotFound.
        """
        ...


class LinuxPipe:
    """A pipe; only the daemon's end is non-blocking."""

    def __init__(self, ours: int, remote: int) -> None:
        self._stream = DescriptorStream(ours)
        self._remote = remote

    @property
    def stream(self) -> Stream:
        return self._stream

    @property
    def remote(self) -> int:
        return self._remote

    def close_remote(self) -> None:
        if self._remote >= 0:
            os.close(self._remote)
            self._remote = -1


class LinuxSockets:
    """Non-blocking descriptors, driven by the event loop."""

    def terminal(self, width: int = 0, height: int = 0, *, owner: int | None = None, raw: bool = False) -> Terminal:
        return LinuxTerminal.open(width, height, owner, raw=raw)

    def offer(self, path: Path) -> Offer:
        return LinuxOffer(path)

    def listener(self, path: Path, *, mode: int, uid: int, gid: int) -> Listener:
        return LinuxListener(path, mode=mode, uid=uid, gid=gid)

    def free_port(self, address: str, *, udp: bool) -> int:
        """By binding a socket for a moment; an address that the host does not have is permitted."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        free = (socket.IPPROTO_IPV6, _FREEBIND6) if family == socket.AF_INET6 else (socket.IPPROTO_IP, _FREEBIND4)
        try:
            with socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as probe:
                probe.setsockopt(*free, 1)
                probe.bind((address, 0))
                return int(probe.getsockname()[1])
        except OSError as error:
            raise HostFailure(f"No port of {address} is free", evidence=str(error)) from error

    def pipe_to_child(self) -> Pipe:
        reader, writer = os.pipe()
        return LinuxPipe(writer, reader)

    def pipe_from_child(self) -> Pipe:
        reader, writer = os.pipe()
        return LinuxPipe(reader, writer)

    def pair_with_child(self) -> Pipe:
        ours, theirs = socket.socketpair()
        return LinuxPipe(ours.detach(), theirs.detach())

    async def connect_packets(self, path: Path) -> Packets:
        """Raises NotFound, HostFailure, TimedOut."""
        return DescriptorStream(await _connected(path, socket.SOCK_SEQPACKET), packet=8192)

    async def connect(self, path: Path) -> Connection:
        return SocketStream(await _connected(path, socket.SOCK_STREAM))

    async def reach(self, address: str, port: int) -> Stream:
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
            return SocketStream(connection.detach())
        except OSError as error:
            raise HostFailure(f"Cannot connect to {address}, port {port}", evidence=str(error)) from error
        finally:
            connection.close()

    def post(self, path: Path, message: bytes, *, once: bool = False) -> bool:
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


async def _connected(path: Path, kind: socket.SocketKind) -> int:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"There is no socket {path}") from None
    connection = socket.socket(socket.AF_UNIX, kind)
    connection.setblocking(False)
    try:
        # A socket's address has at most 107 bytes; a path by descriptor is short.
        await _connect(connection, f"/proc/self/fd/{place}", path)
        return connection.detach()
    finally:
        connection.close()
        os.close(place)


async def _connect(connection: socket.socket, address: str, path: Path) -> None:
    for _ in range(int(_CONNECT_TIMEOUT / 0.02)):
        try:
            return connection.connect(address)
        except BlockingIOError:  # the backlog is full, and the kernel does not notify when it is not
            await asyncio.sleep(0.02)
        except OSError as error:
            remedy = "The process that listened there has ended" if error.errno == errno.ECONNREFUSED else ""
            raise HostFailure(f"Cannot connect to {path}", evidence=str(error), remedy=remedy) from error
    raise TimedOut(f"The process that listens on {path} does not accept connections")
