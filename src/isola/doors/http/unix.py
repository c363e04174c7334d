"""An HTTP server on a Unix socket that root and a group may open."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import struct
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from isola.doors.http.door import Door
from isola.doors.http.protocol import SocketServer
from isola.errors import HostFailure
from isola.model.caller import Caller, Credential

_GROUP = "isola"
BACKLOG = 4096
"""Backlog of connections; the kernel's own bound is net.core.somaxconn, 4096 by default."""
_CLOSE_SECONDS = 1.0
_CREDENTIALS = struct.Struct("3i")


class UnixServer:
    """A listening server; closing it closes its door."""

    def __init__(
        self, server: asyncio.Server, http: web.Server, door: Door, *, path: Path, inode: tuple[int, int]
    ) -> None:
        self.server = server
        self.http = http
        self._door = door
        self._path = path
        self._inode = inode

    async def close(self) -> None:
        """Stop accepting requests, end waiting ones, and remove the socket unless another daemon has replaced it."""
        self.server.close()
        await self._door.close()
        self.http.pre_shutdown()
        await self.http.shutdown(_CLOSE_SECONDS)
        with suppress(FileNotFoundError):
            if inode_of(self._path) == self._inode:
                self._path.unlink()

    def abort(self) -> None:
        """Close the listener and abort all connections, as the end of the process does."""
        self.server.close()
        for handler in list(self.http.connections):
            if handler.transport is not None:
                handler.transport.abort()


async def serve_unix(door: Door, path: Path) -> UnixServer:
    """Serve a door at ``path``. Raises HostFailure when another daemon answers there."""
    listener = await asyncio.to_thread(listen, path)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await door.answer(request, _caller(request))

    http = SocketServer(handle, door.malformed)
    # asyncio accepts up to ``backlog`` connections in a row. Without free file descriptors each attempt fails and is
    # logged, and nothing else runs. A backlog of one reduces that to one line per second.
    server = await asyncio.get_running_loop().create_unix_server(http, sock=listener, backlog=1)
    listener.listen(BACKLOG)
    return UnixServer(server, http, door, path=path, inode=inode_of(path))


def listen(path: Path) -> socket.socket:
    """A socket that root and the group may open; a stale one, on which no daemon answers, is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _require_stale(path)
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    os.fchmod(
        listener.fileno(), 0o600
    )  # bind(2) creates the socket with this mode: closed to others until the group is set
    try:
        listener.bind(os.fspath(path))
    except OSError as error:
        listener.close()
        raise HostFailure(f"Cannot open the socket {path}", evidence=str(error)) from error
    with suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(_GROUP).gr_gid)
    path.chmod(0o660)
    return listener


def _require_stale(path: Path) -> None:
    if not path.is_socket():
        raise HostFailure(f"{path} exists and is not a socket", remedy="move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            raise HostFailure(f"Cannot check whether a daemon answers on {path}", evidence=str(error)) from error
    raise HostFailure(f"Another daemon answers on {path}", remedy="stop it, or choose another directory")


def inode_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _caller(request: web.BaseRequest) -> Caller:
    """The caller at the other end of the Unix socket, by SO_PEERCRED."""
    return caller_at(request.transport)


def caller_at(transport: asyncio.BaseTransport | None) -> Caller:
    """The same of any connection to a Unix socket."""
    link = transport.get_extra_info("socket") if transport is not None else None
    if link is None:
        return _named(os.getuid())
    data = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _named(_CREDENTIALS.unpack(data)[1])


@lru_cache(64)
def _named(uid: int) -> Caller:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Caller(Credential.UNIX, name, "@")
