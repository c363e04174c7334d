"""A whole daemon in memory behind its real doors, on Unix sockets: for tests of doors, clients and commands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from isola.daemon.build import Drivers
from isola.daemon.doors import Doors, open_doors
from isola.testing.clock import FakeClock
from isola.testing.parts import World, host_with_ids
from isola.testing.programs import install_mmdebstrap
from isola.testing.shared_files import SharedFiles
from isola.testing.system import FakeSystem

T = TypeVar("T")
_SECONDS = 20.0
_NO_MORE = Drivers()


def world_in(directory: Path, system: FakeSystem | None = None, more: Drivers = _NO_MORE) -> World:
    """A world whose uploads and image blobs are real files below ``directory``, which the door reads and writes.

    Its clock advances only when a test advances it.
    """
    host = host_with_ids(files=SharedFiles(directory / "images"), clock=FakeClock(), system=system)
    return World(host=host, directory=directory, more=more)


@dataclass
class OpenDoor:
    """A daemon that listens on the Unix socket ``path``."""

    world: World
    doors: Doors
    path: Path
    requests: list[str] = field(default_factory=list)
    """Method and target of every request, in order."""


@asynccontextmanager
async def opened(world: World, *, tiny: bool = True) -> AsyncIterator[OpenDoor]:
    """Start the world's daemon with the image ``tiny``, and open its door; both are closed at the end."""
    await install_mmdebstrap(world.host)
    parts = await world.start()
    if tiny and not list(parts.services.images.aliases()):
        await world.import_image()
    doors = await open_doors(parts.services, world.directory)
    found = OpenDoor(world, doors, world.directory / "unix.socket")
    _note_requests(found)
    try:
        yield found
    finally:
        await found.doors.close()
        await world.parts.close()
        world.forget()


def _note_requests(opened: OpenDoor) -> None:
    dispatcher = opened.doors.rest
    answer: Any = dispatcher.answer

    async def noted(http: Any, *more: Any) -> Any:
        opened.requests.append(f"{http.method} {http.raw_path}")
        return await answer(http, *more)

    dispatcher.answer = noted  # type: ignore[method-assign, assignment]


class ServedWorld:
    """``with ServedWorld(directory) as served``: a daemon in a separate thread, for synchronous clients."""

    def __init__(self, directory: Path, prepare: Callable[[World], object] = lambda world: None) -> None:
        self.directory = directory
        self._prepare = prepare
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._leave: asyncio.Event = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(_SECONDS)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the daemon as after SIGTERM; idempotent."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(_SECONDS)

    def die(self) -> None:
        """End as after SIGKILL: all connections are aborted, without the results of operations."""

        async def abort() -> None:
            for server in self._opened.doors.servers:
                server.abort()

        self.do(abort())
        self.close()

    @property
    def world(self) -> World:
        """The served world; to be used in coroutines passed to ``do`` only."""
        return self._opened.world

    @property
    def requests(self) -> list[str]:
        """Method and target of every request so far."""
        return self._opened.requests

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the daemon's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    def make_world(self) -> World:
        """Subclasses can return another world."""
        return world_in(self.directory)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        world = self.make_world()
        async with opened(world) as self._opened:
            self._prepare(world)
            self._started.set()
            await self._leave.wait()
