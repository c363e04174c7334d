"""What the REST door speaks to, standing in memory, and a client for its socket."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from rest_instances import StandInstances
from rest_nouns import StandImages, StandNetworks, StandPools, StandProfiles
from rest_times import START

from isola.doors import Services
from isola.doors.rest import serve
from isola.events import Events
from isola.host.system import Kernel
from isola.model.identity import HostNames
from isola.model.probe import Probe
from isola.operations import Operations
from isola.server import Server
from isola.state import Collection, mapping_codec
from isola.testing.store import FakeStore


class StandClock:
    def __init__(self) -> None:
        self.count = 0

    def now(self) -> datetime:
        return START

    def monotonic(self) -> float:
        return float(self.count)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def token(self, size: int = 32) -> str:
        self.count += 1
        return hashlib.sha512(str(self.count).encode()).hexdigest()[: 2 * size]

    def uuid(self) -> str:
        text = self.token(16)
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"


class StandFiles:
    async def make_directory(self, path: Path, *, mode: int = 0o711, owner: int | None = None) -> None:
        os.makedirs(path, mode, exist_ok=True)

    async def remove_tree(self, path: Path) -> None:
        shutil.rmtree(path)


class StandSystem:
    def kernel(self) -> Kernel:
        return Kernel("Linux", "6.1.0", "#1", "x86_64", "island")

    def os_release(self) -> Mapping[str, str]:
        return {"NAME": "Debian GNU/Linux", "VERSION_ID": "12"}

    def pid(self) -> int:
        return 4711

    def open_files(self) -> tuple[int, int]:
        return 20, 1024

    def cpus(self) -> Sequence[Mapping[str, object]]:
        return [{"id": n, "core": n // 2, "socket": 0, "numa_node": 0, "model": "m", "vendor": "v"} for n in range(4)]

    def memory(self) -> Mapping[str, int]:
        return {"MemTotal": 8 << 30, "MemAvailable": 6 << 30, "MemFree": 5 << 30}

    def kernel_limits(self) -> Mapping[str, Mapping[str, int]]:
        return {"fs.inotify.max_user_instances": {"limit": 1024, "used": 7}}

    def devices(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        return {"network": [], "storage": [{"id": "sda", "size": 5}]}


@dataclasses.dataclass
class Stand:
    """A door over stand-ins, and a client session on its socket."""

    services: Any
    session: aiohttp.ClientSession
    path: Path
    door: Any

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
        """Begin an operation and wait for its end."""
        status, answer = await self.ask(method, path, body, **more)
        assert status == 202, answer
        return await self.get(f"{answer['operation']}/wait")


async def stand_services(directory: Path) -> Services:
    clock = StandClock()
    events = Events(clock.now)
    operations = Operations(events, now=clock.now, new_id=clock.uuid)
    store = FakeStore(clock)
    profiles = StandProfiles()
    system = StandSystem()
    runtimes = SimpleNamespace(
        probes={"runc": Probe(True, "1.1.5"), "crun": Probe(False, reason="hybrid", remedy="use runc")},
        all=lambda: (("runc", SimpleNamespace(capabilities=SimpleNamespace(isolations=frozenset({"container"})))),),
    )
    host = SimpleNamespace(clock=clock, files=StandFiles(), system=system)
    parts: dict[str, Any] = {
        "directory": directory,
        "names": HostNames("isola"),
        "host": host,
        "server": Server(Collection(store, "server configuration", "/server/", mapping_codec()), store.copy),
        "operations": operations,
        "events": events,
        "instances": StandInstances(operations, profiles, clock),
        "images": StandImages(directory, operations),
        "networks": StandNetworks(),
        "pools": StandPools(),
        "profiles": profiles,
        "runtimes": runtimes,
    }
    return Services(**parts)


@asynccontextmanager
async def standing() -> AsyncIterator[Stand]:
    """An open door; closed at the end, with nothing left in its directory but what images keep."""
    with tempfile.TemporaryDirectory(prefix="rest-") as text:
        directory = Path(text)
        services = await stand_services(directory)
        path = directory / "unix.socket"
        door = await serve(services, path)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            try:
                yield Stand(services, session, path, door)
            finally:
                await door.close()
                services.events.close()
        assert not path.exists()
        scratch = directory / "scratch"
        assert not scratch.exists() or not list(scratch.iterdir())
