"""Opens the doors: each has a socket of its own, and all share the network listener."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from isola.doors import Services, docker, registry, rest
from isola.doors.docker.direct import DirectServer, serve_direct
from isola.doors.http.https import Https
from isola.doors.http.unix import UnixServer, serve_unix
from isola.errors import HostFailure, IsolaError
from isola.state.reserve import Reserve

Server = TypeVar("Server", UnixServer, DirectServer)


@dataclass(frozen=True, slots=True)
class Doors:
    """The open doors."""

    rest: rest.Dispatcher
    docker: docker.Dispatcher
    registry: registry.Dispatcher
    servers: Sequence[UnixServer | DirectServer]
    https: Https

    async def close(self) -> None:
        """Stop accepting requests, end waiting ones, and remove the sockets."""
        await asyncio.gather(*(server.close() for server in self.servers), self.https.close())


async def open_doors(services: Services, directory: Path) -> Doors:
    """Listen in the daemon's directory, and on the network if configured. Raises HostFailure if another one does."""
    api, containers, images = rest.Dispatcher(services), docker.Dispatcher(services), registry.Dispatcher(services)
    servers: list[UnixServer | DirectServer] = []
    try:
        servers.append(await _opened(partial(serve_unix, api), directory / "unix.socket"))
        servers.append(await _opened(partial(serve_direct, containers), directory / "buildkit.sock"))
        servers.append(await _opened(partial(serve_unix, containers), directory / "docker.sock"))
    except IsolaError:
        await asyncio.gather(*(server.close() for server in servers))
        raise
    https = Https(services, (containers, images, api))
    await https.open()
    return Doors(api, containers, images, servers, https)


async def _opened(serve: Callable[[Path], Awaitable[Server]], path: Path) -> Server:
    """On a full disk the reserve gives an inode: without a socket, no client could delete anything."""
    reserve = Reserve(path.parent)
    while True:
        try:
            return await serve(path)
        except HostFailure as error:
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
            if not full or not await asyncio.to_thread(reserve.release):
                raise
