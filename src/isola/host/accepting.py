"""A Unix socket on which programs connect to the daemon, one stream each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from isola.errors import HostFailure
from isola.host.stream import DescriptorStream

_BACKLOG = 16


class LinuxListener:
    """The constructor creates it."""

    def __init__(self, path: Path, *, mode: int, uid: int, gid: int) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # A socket's address has at most 107 bytes; a path by descriptor is short.
        place = f"/proc/self/fd/{directory}/{path.name}"
        try:
            self._socket.bind(place)
            os.chown(place, uid, gid, follow_symlinks=False)
            os.chmod(place, mode)
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            raise HostFailure(f"Cannot listen on {path}", evidence=str(error)) from error
        finally:
            os.close(directory)

    async def accept(self) -> DescriptorStream:
        """The next connection."""
        connection, _ = await asyncio.get_running_loop().sock_accept(self._socket)
        return DescriptorStream(connection.detach())

    def close(self) -> None:
        """Stop listening and remove the socket. May be called twice."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
