"""Pseudo-terminals: created by the daemon, or received from another program."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
import tty
from pathlib import Path

from isola.errors import HostFailure
from isola.host.stream import DescriptorStream


class LinuxTerminal:
    """A pair of pseudo-terminal descriptors, or a master alone."""

    def __init__(self, master: int, slave: int = -1) -> None:
        self._stream = DescriptorStream(master)
        self._slave = slave

    @classmethod
    def open(cls, width: int, height: int, owner: int | None, *, raw: bool) -> LinuxTerminal:
        master, slave = os.openpty()
        terminal = cls(master, slave)
        terminal.resize(width or 80, height or 25)
        if owner is not None:
            os.fchown(slave, owner, owner)
        if raw:
            tty.setraw(slave)
        return terminal

    @property
    def stream(self) -> DescriptorStream:
        """The master side."""
        return self._stream

    @property
    def slave(self) -> int:
        """The child's end; -1 if closed, or if another process has it."""
        return self._slave

    def resize(self, width: int, height: int) -> None:
        """Set the window size; programs on the terminal get SIGWINCH. No effect if the stream is closed."""
        size = struct.pack("HHHH", min(max(height, 0), 0xFFFF), min(max(width, 0), 0xFFFF), 0, 0)
        if self._stream.fd >= 0:
            fcntl.ioctl(self._stream.fd, termios.TIOCSWINSZ, size)

    def close_slave(self) -> None:
        """Call it after the child has inherited it: the terminal hangs up when all copies of this end are closed."""
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1


class LinuxOffer:
    """A socket on which one program passes the master of a terminal. The constructor creates it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # A socket's address has at most 107 bytes; a path by descriptor is short.
            self._socket.bind(f"/proc/self/fd/{directory}/{path.name}")
            self._socket.listen(1)
        except OSError as error:
            self._socket.close()
            raise HostFailure(f"Cannot listen on {path}", evidence=str(error)) from error
        finally:
            os.close(directory)

    async def receive(self) -> LinuxTerminal:
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(self._socket)
        with connection:
            await _readable(connection)
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
            for superfluous in descriptors[1:]:
                os.close(superfluous)
        if not descriptors or not os.isatty(descriptors[0]):
            for unwanted in descriptors[:1]:
                os.close(unwanted)
            raise HostFailure("A program connected, but did not send a terminal")
        os.set_inheritable(descriptors[0], False)
        return LinuxTerminal(descriptors[0])

    def close(self) -> None:
        """Stop listening and remove the socket. May be called twice."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
