"""The REST door of a daemon in memory, and a client session on its socket."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from isola.daemon.build import Drivers
from isola.daemon.doors import Doors
from isola.doors import Services
from isola.host import Host
from isola.host.system import Kernel
from isola.model.instance import Address, Instance, InterfaceState
from isola.model.probe import Probe
from isola.model.reference import Ref
from isola.storage.capabilities import Feature
from isola.testing.commands import FakeCommand, Program
from isola.testing.door import OpenDoor, opened, world_in
from isola.testing.files import FakeRoot
from isola.testing.namespaces import LOOPBACK
from isola.testing.parts import World
from isola.testing.runtime import FakeRuntime
from isola.testing.storage import FakeStorage
from isola.testing.system import FakeSystem
from isola.testing.tree import Node

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A fast directory for temporary files; None: the default."""


@dataclass
class Stand:
    """An open door, and a client session on its socket."""

    world: World
    session: aiohttp.ClientSession
    opened: OpenDoor

    @property
    def path(self) -> Path:
        """The door's socket."""
        return self.opened.path

    @property
    def doors(self) -> Doors:
        """The doors, which are closed at the end; tests that replace them set them here."""
        return self.opened.doors

    @doors.setter
    def doors(self, doors: Doors) -> None:
        self.opened.doors = doors

    @property
    def services(self) -> Services:
        """The use cases behind the door."""
        return self.world.parts.services

    async def ask(self, method: str, path: str, body: object = None, **more: Any) -> tuple[int, Any]:
        """Status and decoded body."""
        if body is not None:
            more["json"] = body
        async with self.session.request(method, f"http://isola{path}", **more) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str) -> Any:
        """Metadata of a sync answer."""
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return body["metadata"]

    async def finish(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """Start an operation and wait for its end."""
        status, answer = await self.ask(method, path, body, **more)
        assert status == 202, answer
        return await self.get(f"{answer['operation']}/wait")

    async def create(self, name: str, *, start: bool = False, **wanted: Any) -> Instance:
        """Create an instance of the image ``tiny``, with ``PROGRAMS`` as commands."""
        return await self.world.create(name, start=start, **wanted)

    async def write_logs(self, name: str) -> None:
        """Write log files of an instance, as a runtime and a recorded command do."""
        instance, files = self.services.instances.get(Ref.default(name)), self.world.host.files
        for file in ("runtime.log", "exec-output/exec_1.stdout"):
            path = self.world.context.logs(instance) / file
            await files.make_directory(path.parent)
            await files.write(path, f"log of {file}".encode())

    def give_address(self, name: str, address: str) -> None:
        """Give a running instance an IPv4 address on eth0."""
        eth0 = InterfaceState("eth0", (Address("inet", address, "24", "global"),))
        self.world.on_host(name).interfaces = (LOOPBACK, eth0)

    async def inside(self, name: str) -> Node:
        """The root directory of a running instance."""
        async with self.services.instances.files(Ref.default(name)) as root:
            assert isinstance(root, FakeRoot)
            return root.node


async def _cat(command: FakeCommand) -> int:
    while data := await command.stdin.read():
        await command.stdout.write(data)
    return 7


async def _control(command: FakeCommand) -> int:
    status = await _cat(command)
    await command.stderr.write(f"signal {await command.signals.get()}".encode())
    return status


async def _line(command: FakeCommand) -> int:
    await command.stdin.read()
    return 7


async def _true(command: FakeCommand) -> int:
    return 0


PROGRAMS: Mapping[str, Program] = {"cat": _cat, "control": _control, "line": _line, "true": _true}
"""``cat`` copies its input and exits with 7; ``control`` also prints received signals on standard error.

``line`` exits with 7 as soon as it reads something."""


def _system() -> FakeSystem:
    return FakeSystem(
        uname=Kernel("Linux", "6.1.0", "#1", "x86_64", "island"),
        cpu_count=4,
        threads_per_core=2,
        hardware={"network": [], "storage": [{"id": "sda", "size": 5}], "gpu": (), "usb": (), "pci": ()},
    )


class _AbsentRuntime(FakeRuntime):
    @classmethod
    async def probe(cls, host: Host) -> Probe:
        return Probe(False, reason="hybrid", remedy="use runc")


class _AbsentStorage(FakeStorage):
    @classmethod
    async def probe(cls, host: Host, trials: Path) -> Probe:
        return Probe(False, reason="no btrfs", remedy="install it")


class _LimitingStorage(FakeStorage):
    async def why_not(self, feature: Feature) -> str:
        return ""


LIMITING = "limiting"
"""A storage driver whose pools have quotas."""
_ABSENT = Drivers({"crun": _AbsentRuntime}, {"btrfs": _AbsentStorage})
"""Drivers that do not work on this host."""
_WITH_QUOTAS = Drivers(_ABSENT.runtimes, {**(_ABSENT.storage or {}), LIMITING: _LimitingStorage})


@asynccontextmanager
async def standing(
    before: Callable[[World], Awaitable[object]] | None = None, *, tiny: bool = True, quotas: bool = False
) -> AsyncIterator[Stand]:
    """An open door; closed at the end, when its socket and its uploads must have been removed.

    ``before`` prepares the state left by earlier daemons; ``tiny`` imports the image of that name; ``quotas``
    adds the storage driver ``LIMITING``.
    """
    with tempfile.TemporaryDirectory(prefix="rest-", dir=MEMORY) as text:
        world = world_in(Path(text), _system(), _WITH_QUOTAS if quotas else _ABSENT)
        if before is not None:
            await before(world)
        async with opened(world, tiny=tiny) as door:
            world.runtime.programs.update(PROGRAMS)
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(door.path))) as session:
                yield Stand(world, session, door)
            scratch = world.parts.services.images.store.scratch
        assert not door.path.exists()
        assert not list(scratch.iterdir())
