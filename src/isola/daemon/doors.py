"""Opens the doors: each has a socket of its own, and all share the network listener."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isola.doors import Services, docker, registry, rest
from isola.doors.http.door import Door
from isola.doors.http.https import Https
from isola.doors.http.unix import UnixServer, serve_unix
from isola.errors import HostFailure, IsolaError
from isola.state.reserve import Reserve


@dataclass(frozen=True, slots=True)
class Doors:
    """The open doors."""

    rest: rest.Dispatcher
    docker: docker.Dispatcher
    registry: registry.Dispatcher
    servers: Sequence[UnixServer]
    https: Https

    async def close(self) -> None:
        """Stop accepting requests, end waiting ones, and remove the sockets."""
        await asyncio.gather(*(server.close() for server in self.servers), self.https.close())


async def open_doors(services: Services, directory: Path) -> Doors:
    """Listen in the daemon's directory, and on the network if configured. Raises HostFailure if another one does."""
    api, containers, images = rest.Dispatcher(services), docker.Dispatcher(services), registry.Dispatcher(services)
    servers: list[UnixServer] = []
    try:
        servers.append(await _serve(api, directory / "unix.socket"))
        servers.append(await _serve(containers, directory / "docker.sock"))
    except IsolaError:
        await asyncio.gather(*(server.close() for server in servers))
        raise
    https = Https(services, (containers, images, api))
    await https.open()
    return Doors(api, containers, images, servers, https)


async def _serve(door: Door, path: Path) -> UnixServer:
    """On a full disk the reserve gives an inode: without a socket, no client could delete anything."""
    reserve = Reserve(path.parent)
    while True:
        try:
            return await serve_unix(door, path)
        except HostFailure as error:
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
            if not full or not await asyncio.to_thread(reserve.release):
                raise
