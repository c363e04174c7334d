"""Stateful stand-ins for what the REST door speaks to, and a client for its socket."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from isola.doors import Services
from isola.doors.rest import serve
from isola.errors import AlreadyExists, Forbidden, InUse, InvalidInput, NotFound, WrongState
from isola.events import Events
from isola.host.files import Entry
from isola.host.system import Kernel
from isola.model.exec import ConsoleRequest, ExecRequest
from isola.model.identity import HostNames, IdRange
from isola.model.image import Alias, Image, ImageConfig, Layer
from isola.model.instance import (
    Address,
    Instance,
    InstanceRequest,
    InstanceState,
    InstanceUpdate,
    InterfaceState,
    Status,
)
from isola.model.limits import Usage
from isola.model.names import instance_name, plain_name
from isola.model.network import Lease, Network
from isola.model.probe import Probe
from isola.model.profile import Profile
from isola.model.storage import Pool, Space
from isola.operations import Operation, Operations
from isola.server import Server
from isola.state import Collection, mapping_codec
from isola.testing.store import FakeStore

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


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

    def cpus(self) -> Sequence[Mapping[str, object]]:
        return [{"id": n, "core": n // 2, "socket": 0, "numa_node": 0, "model": "m", "vendor": "v"} for n in range(4)]

    def memory(self) -> Mapping[str, int]:
        return {"MemTotal": 8 << 30, "MemAvailable": 6 << 30, "MemFree": 5 << 30}

    def devices(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        return {"network": [], "storage": [{"id": "sda", "size": 5}]}


class StandRoot:
    """A flat map of absolute paths."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {"/": Entry("directory", 0o755, 0, 0, 0)}
        self.content: dict[str, bytes] = {}

    async def stat(self, path: str, *, follow: bool = True) -> Entry:
        path = path.rstrip("/") or "/"
        entry = self.entries.get(path)
        if entry is None:
            raise NotFound(f"{path!r} not found")
        if entry.kind == "directory":
            prefix = path.rstrip("/") + "/"
            names = {p.removeprefix(prefix) for p in self.entries if p.startswith(prefix) and p != "/"}
            return dataclasses.replace(entry, names=tuple(sorted(n for n in names if "/" not in n)))
        return entry

    async def read(self, path: str) -> AsyncIterator[bytes]:
        async def blocks() -> AsyncIterator[bytes]:
            yield self.content[path]

        return blocks()

    async def write(
        self, path: str, content: AsyncIterator[bytes], *, uid: int, gid: int, mode: int | None, append: bool = False
    ) -> None:
        data = b"".join([block async for block in content])
        old = self.entries.get(path, Entry("file", 0o644, 0, 0, 0))
        self.content[path] = (self.content.get(path, b"") if append else b"") + data
        self.entries[path] = Entry(
            "file",
            old.mode if mode is None else mode,
            old.uid if uid < 0 else uid,
            old.gid if gid < 0 else gid,
            len(self.content[path]),
        )

    async def make_directory(self, path: str, *, uid: int, gid: int, mode: int) -> None:
        self.entries.setdefault(path, Entry("directory", mode, uid, gid, 0))

    async def make_symlink(self, path: str, target: str, *, uid: int, gid: int) -> None:
        self.entries[path] = Entry("symlink", 0o777, uid, gid, len(target), target=target)

    async def remove(self, path: str) -> None:
        if self.entries.pop(path, None) is None:
            raise NotFound(f"{path!r} not found")


class StandInstances:
    def __init__(self, operations: Operations, profiles: StandProfiles, clock: StandClock) -> None:
        self.operations, self.profiles, self.clock = operations, profiles, clock
        self.records: dict[str, Instance] = {}
        self.revisions: dict[str, int] = {}
        self.running: dict[str, Status] = {}
        self.roots: dict[str, StandRoot] = {}
        self.console_text = b"login: "
        self.rendered = 0

    def add(self, name: str, **more: Any) -> Instance:
        instance = Instance(
            id=hashlib.sha256(name.encode()).hexdigest()[:16],
            name=name,
            image="f" * 64,
            idmap=IdRange(100000),
            created_at=START,
            runtime="runc",
            volatile={"root.pool": "default", "eth0.hwaddr": "10:66:6a:00:00:01"},
            image_properties={"os": "Debian", "release": "bookworm"},
            **more,
        )
        self.put(instance)
        return instance

    def put(self, instance: Instance) -> None:
        self.records[instance.name] = instance
        self.revisions[instance.name] = self.revisions.get(instance.name, 0) + 1

    def __iter__(self) -> Any:
        return iter([self.records[name] for name in sorted(self.records)])

    def __len__(self) -> int:
        return len(self.records)

    def get(self, name: str, project: str = "default") -> Instance:
        if name not in self.records:
            raise NotFound(f"Instance {name!r} not found")
        return self.records[name]

    def revision(self, name: str) -> int:
        return self.revisions.get(name, 0)

    def status(self, instance: Instance) -> Status:
        return self.running.get(instance.id, Status.STOPPED)

    def _kept(self, instance: Instance) -> dict[str, str]:
        return {f"image.{k}": v for k, v in instance.image_properties.items()} | {
            f"volatile.{k}": v for k, v in instance.volatile.items()
        }

    def config(self, instance: Instance) -> dict[str, str]:
        return dict(instance.config) | self._kept(instance)

    def expanded(self, instance: Instance) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
        self.rendered += 1
        config: dict[str, str] = {}
        devices: dict[str, Mapping[str, str]] = {}
        for name in instance.profiles:
            profile = self.profiles.get(name)
            config |= profile.config
            devices |= profile.devices
        return config | dict(instance.config) | self._kept(instance), devices | dict(instance.devices)

    async def state(self, instance: Instance, *, disk: bool = True) -> InstanceState:
        if self.status(instance) is Status.STOPPED:
            return InstanceState(Status.STOPPED, disk={"root": 4096} if disk else {})
        eth0 = InterfaceState("eth0", (Address("inet", "10.0.0.2", "24", "global"),), hwaddr="10:66:6a:00:00:01")
        return InstanceState(
            self.status(instance),
            42,
            Usage(10, 20, 30, 0, 0, 5),
            1 << 30,
            {"root": 4096} if disk else {},
            (eth0,),
            START,
        )

    def _operate(self, description: str, name: str, work: Any, **more: Any) -> Operation:
        return self.operations.start(
            description,
            work,
            locks=[f"instance/{name}"],
            resources={"instances": (f"/1.0/instances/{name}",)},
            **more,
        )

    def create(self, request: InstanceRequest) -> Operation:
        name = instance_name(request.name) if request.name is not None else "i-1"
        if name in self.records:
            raise AlreadyExists(f"Instance {name!r} already exists", field="name")
        for key in request.config:
            if not key.startswith(("user.", "limits.")):
                raise InvalidInput(f"Unknown instance key {key!r}", field=f"config.{key}")

        async def work(op: Operation) -> None:
            with op.step("Unpack", total=100, unit="bytes") as step:
                step.advance(100)
            instance = self.add(
                name,
                config=request.config,
                devices=request.devices,
                description=request.description,
                profiles=request.profiles if request.profiles is not None else ("default",),
                ephemeral=request.ephemeral,
            )
            if request.start:
                self.running[instance.id] = Status.RUNNING

        return self._operate("Creating instance", name, work)

    def _set(self, name: str, verb: str, status: Status, allowed: Sequence[Status]) -> Operation:
        instance = self.get(name)
        if self.status(instance) not in allowed:
            raise WrongState(f"Cannot {verb}: instance {name!r} is {self.status(instance)}")

        async def work(op: Operation) -> None:
            self.running[instance.id] = status

        return self._operate(f"{verb} instance", name, work)

    def start(self, name: str, *, stateful: bool = False) -> Operation:
        return self._set(name, "start", Status.RUNNING, [Status.STOPPED])

    def stop(self, name: str, *, timeout: float | None = 30, force: bool = False, stateful: bool = False) -> Operation:
        return self._set(name, "stop", Status.STOPPED, [Status.RUNNING, Status.FROZEN])

    def restart(self, name: str, *, timeout: float | None = 30, force: bool = False) -> Operation:
        return self._set(name, "restart", Status.RUNNING, [Status.RUNNING])

    def pause(self, name: str) -> Operation:
        return self._set(name, "freeze", Status.FROZEN, [Status.RUNNING])

    def resume(self, name: str) -> Operation:
        return self._set(name, "unfreeze", Status.RUNNING, [Status.FROZEN])

    def rename(self, name: str, new: str) -> Operation:
        instance = self.get(name)
        instance_name(new)

        async def work(op: Operation) -> None:
            del self.records[name]
            self.put(dataclasses.replace(instance, name=new))

        return self._operate("Renaming instance", name, work)

    def delete(self, name: str, *, force: bool = False) -> Operation:
        instance = self.get(name)
        if self.status(instance) is not Status.STOPPED and not force:
            raise WrongState(f"Instance {name!r} is running", remedy="stop it first")

        async def work(op: Operation) -> None:
            self.running.pop(instance.id, None)
            del self.records[name]

        return self._operate("Deleting instance", name, work)

    def update(self, name: str, update: InstanceUpdate) -> Operation:
        instance = self.get(name)
        config = {k: v for k, v in update.config.items() if v and not k.startswith(("volatile.", "image."))}

        async def work(op: Operation) -> None:
            self.put(
                dataclasses.replace(
                    instance,
                    config=config,
                    devices=dict(update.devices),
                    profiles=update.profiles,
                    description=update.description,
                )
            )

        return self._operate("Updating instance", name, work)

    def exec(self, name: str, request: ExecRequest) -> Operation:
        """Echoes standard input, then says on standard error how control was used; ``return`` is 7."""
        self.get(name)
        if not request.command:
            raise InvalidInput("No command was given", field="command")
        names = ("0", "control") if request.interactive else ("0", "1", "2", "control")
        secrets = {channel: self.clock.token(32) for channel in names} if request.wait_for_websocket else {}

        async def work(op: Operation) -> None:
            if secrets:
                stdin = await op.channel("0")
                stdout = stdin if request.interactive else await op.channel("1")
                control = await op.channel("control")
                while data := await stdin.receive():
                    await stdout.send(data)
                words = await control.receive() if request.command[0] == "control" else None
                if not request.interactive:
                    stderr = await op.channel("2")
                    await stderr.send(f"control: {words!r}".encode())
                    await stderr.send("")
                    await stderr.close()
                await stdout.send("")
                await stdout.close()
            op.update_metadata(**{"return": 7})

        metadata = {"command": list(request.command), "interactive": request.interactive}
        return self.operations.start(
            "Executing command",
            work,
            kind="websocket" if secrets else "task",
            resources={"instances": (f"/1.0/instances/{name}",)},
            channels=secrets,
            metadata=metadata | ({"fds": secrets} if secrets else {}),
        )

    def console(self, name: str, request: ConsoleRequest) -> Operation:
        return self.exec(name, ExecRequest(("console",), interactive=True))

    async def console_log(self, name: str) -> bytes:
        return self.console_text

    async def clear_console_log(self, name: str) -> None:
        self.console_text = b""

    async def logs(self, name: str) -> Sequence[str]:
        return ["runtime.log", "exec-output/exec_1.stdout"]

    async def read_log(self, name: str, file: str) -> bytes:
        if file not in await self.logs(name):
            raise NotFound(f"no log {file!r}")
        return b"log of " + file.encode()

    async def delete_log(self, name: str, file: str) -> None:
        await self.read_log(name, file)

    @asynccontextmanager
    async def files(self, name: str) -> AsyncIterator[StandRoot]:
        yield self.roots.setdefault(self.get(name).id, StandRoot())


class StandProfiles:
    def __init__(self) -> None:
        self.records = {
            "default": Profile("default", "", {}, {"root": {"type": "disk", "path": "/", "pool": "default"}})
        }
        self.revisions = {"default": 1}

    def __iter__(self) -> Any:
        return iter(list(self.records.values()))

    def get(self, name: str) -> Profile:
        if name not in self.records:
            raise NotFound(f"Profile {name!r} not found")
        return self.records[name]

    def revision(self, name: str) -> int:
        return self.revisions.get(name, 0)

    def used_by(self, name: str) -> Sequence[str]:
        return ()

    def _put(self, profile: Profile) -> None:
        self.records[profile.name] = profile
        self.revisions[profile.name] = self.revision(profile.name) + 1

    async def create(self, profile: Profile) -> None:
        plain_name(profile.name)
        if profile.name in self.records:
            raise AlreadyExists(f"Profile {profile.name!r} already exists")
        self._put(profile)

    async def update(self, name: str, description: str, config: Any, devices: Any) -> None:
        self._put(Profile(self.get(name).name, description, config, devices))

    async def rename(self, old: str, new: str) -> None:
        if old == "default":
            raise Forbidden("The profile 'default' cannot be renamed")
        plain_name(new)
        self._put(dataclasses.replace(self.records.pop(old), name=new))

    async def delete(self, name: str) -> None:
        if name == "default":
            raise Forbidden("The profile 'default' cannot be deleted")
        del self.records[self.get(name).name]


class StandNetworks:
    def __init__(self) -> None:
        self.probes = {"bridge": Probe(True, "1")}
        self.records = {"isolabr0": Network("isolabr0", config={"ipv4.address": "10.1.2.1/24"})}

    def __iter__(self) -> Any:
        return iter(list(self.records.values()))

    def get(self, name: str) -> Network:
        if name not in self.records:
            raise NotFound(f"Network {name!r} not found")
        return self.records[name]

    def used_by(self, name: str) -> Sequence[str]:
        return ["/1.0/profiles/default"] if name == "isolabr0" else []

    async def create(self, op: Operation, network: Network) -> Network:
        if network.name in self.records:
            raise AlreadyExists(f"Network {network.name!r} already exists")
        self.records[network.name] = network
        return network

    async def update(self, op: Operation, name: str, description: str, config: Mapping[str, str]) -> None:
        self.records[name] = dataclasses.replace(self.get(name), description=description, config=config)

    async def rename(self, op: Operation, old: str, new: str) -> None:
        self.records[new] = dataclasses.replace(self.records.pop(old), name=new)

    async def delete(self, op: Operation, name: str) -> None:
        if self.used_by(name):
            raise InUse(f"Network {name!r} is in use", evidence=", ".join(self.used_by(name)))
        del self.records[name]

    async def leases(self, name: str) -> Sequence[Lease]:
        return [Lease("web1", "10:66:6a:00:00:01", "10.1.2.3", "static")]

    async def state(self, name: str) -> Mapping[str, object]:
        self.get(name)
        return {"addresses": [], "counters": {}, "hwaddr": "", "mtu": 1500, "state": "up", "type": "broadcast"}

    async def unmanaged(self) -> Mapping[str, str]:
        return {"lo": "loopback", "eth0": "physical"}


class StandPools:
    def __init__(self) -> None:
        self.probes = {"overlay": Probe(True, "6.1"), "btrfs": Probe(False, reason="no btrfs", remedy="install it")}
        self.records = {"default": Pool("default")}

    def __iter__(self) -> Any:
        return iter(list(self.records.values()))

    def get(self, name: str) -> Pool:
        if name not in self.records:
            raise NotFound(f"Storage pool {name!r} not found")
        return self.records[name]

    def used_by(self, name: str) -> Sequence[str]:
        return []

    async def create(self, op: Operation, pool: Pool) -> None:
        if pool.driver not in self.probes:
            raise InvalidInput(f"There is no storage driver {pool.driver[:20]!r}", field="driver")
        if pool.name in self.records:
            raise AlreadyExists(f"Storage pool {pool.name!r} already exists")
        self.records[pool.name] = pool

    async def update(self, name: str, description: str, config: Mapping[str, str]) -> None:
        self.records[name] = dataclasses.replace(self.get(name), description=description, config=config)

    async def delete(self, op: Operation, name: str) -> None:
        del self.records[name]

    async def space(self, name: str) -> Space:
        return Space(100, 40, 10, 4)


class StandImages:
    """Keeps uploads as they are: the fingerprint is the hash of the bytes."""

    def __init__(self, directory: Path, operations: Operations) -> None:
        self.operations = operations
        self.store = SimpleNamespace(scratch=directory / "scratch")
        self.probes = {"debian": Probe(True, "1"), "file": Probe(True, "1")}
        self.directory = directory
        self.records: dict[str, Image] = {}
        self.names: dict[str, Alias] = {}
        self.kept: dict[str, list[tuple[str, Path]]] = {}

    def __iter__(self) -> Any:
        return iter(list(self.records.values()))

    def offers(self) -> Mapping[str, str]:
        return {"debian/12": "Debian 12"}

    @property
    def sources(self) -> Any:
        return SimpleNamespace(offering=lambda name: ("debian", name) if name in self.offers() else None)

    def get(self, fingerprint: str) -> Image:
        found = [image for key, image in self.records.items() if len(fingerprint) >= 4 and key.startswith(fingerprint)]
        if len(found) != 1:
            raise NotFound(f"Image {fingerprint[:80]!r} not found")
        return found[0]

    def _add(self, data: Sequence[bytes], filename: str, properties: Mapping[str, str], public: bool) -> Image:
        fingerprint = hashlib.sha256(b"".join(data)).hexdigest()
        if fingerprint in self.records:
            raise AlreadyExists(f"Image {fingerprint[:12]} already exists")
        names = ["image.tar.gz"] if len(data) == 1 else ["meta.tar.gz", "rootfs.tar.gz"]
        self.kept[fingerprint] = []
        for name, blob in zip(names, data, strict=True):
            path = self.directory / f"{fingerprint}.{name}"
            path.write_bytes(blob)
            self.kept[fingerprint].append((name, path))
        self.records[fingerprint] = Image(
            fingerprint,
            "sha256:" + "0" * 64,
            sum(map(len, data)),
            "x86_64",
            START,
            START,
            (Layer("sha256:" + "1" * 64, "tar", 1),),
            ImageConfig(system=True),
            properties=properties,
            public=public,
            filename=filename,
        )
        return self.records[fingerprint]

    def start_import(
        self,
        files: Sequence[Path],
        *,
        properties: Mapping[str, str],
        public: bool,
        filename: str,
        aliases: Sequence[str],
        fingerprint: str | None,
        scratch: Path,
    ) -> Operation:
        async def work(op: Operation) -> None:
            data = [path.read_bytes() for path in files]
            shutil.rmtree(scratch)
            if fingerprint not in (None, hashlib.sha256(b"".join(data)).hexdigest()):
                raise InvalidInput("The upload is damaged", field="fingerprint")
            self._finish(op, self._add(data, filename, properties, public), aliases)

        return self.operations.start("Importing image", work)

    def start_build(
        self, source: str, request: Any, aliases: Sequence[str] = (), public: bool = False, auto_update: bool = False
    ) -> Operation:
        async def work(op: Operation) -> None:
            text = json.dumps([source, request.name, dict(request.options)])
            self._finish(op, self._add([text.encode()], "", request.properties, public), aliases)

        return self.operations.start("Building image", work)

    def start_delete(self, fingerprint: str) -> Operation:
        async def work(op: Operation) -> None:
            del self.records[fingerprint]

        return self.operations.start("Deleting image", work)

    def _finish(self, op: Operation, image: Image, aliases: Sequence[str]) -> None:
        for name in aliases:
            self.names[name] = Alias(name, image.fingerprint)
        op.resources["images"] = (f"/1.0/images/{image.fingerprint}",)
        op.update_metadata(fingerprint=image.fingerprint, size=image.size)

    async def update(self, fingerprint: str, **values: Any) -> None:
        self.records[fingerprint] = dataclasses.replace(self.get(fingerprint), **values)

    def export(self, fingerprint: str) -> Sequence[tuple[str, Path]]:
        return self.kept[fingerprint]

    def aliases(self) -> Any:
        return iter(list(self.names.values()))

    def alias(self, name: str) -> Alias:
        if name not in self.names:
            raise NotFound(f"Alias {name!r} not found")
        return self.names[name]

    async def add_alias(self, alias: Alias) -> None:
        self.names[alias.name] = alias

    async def update_alias(self, name: str, target: str, description: str) -> None:
        self.names[name] = dataclasses.replace(self.alias(name), target=target, description=description)

    async def rename_alias(self, old: str, new: str) -> None:
        self.names[new] = dataclasses.replace(self.names.pop(old), name=new)

    async def remove_alias(self, name: str) -> None:
        del self.names[name]


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
        "server": Server(Collection(store, "server configuration", "/server/", mapping_codec())),
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
