"""Instances that live in memory, with their files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from rest_nouns import StandProfiles
from rest_times import START

from isola.errors import AlreadyExists, InvalidInput, NotFound, WrongState
from isola.host.files import Entry
from isola.model.exec import ConsoleRequest, ExecRequest
from isola.model.identity import IdRange
from isola.model.instance import (
    Address,
    Instance,
    InstanceRequest,
    InstanceState,
    InstanceUpdate,
    InterfaceState,
    Status,
    Unknown,
)
from isola.model.limits import Usage
from isola.model.names import instance_name
from isola.operations import Operation, Operations
from isola.runtimes import ExecSpec
from isola.state import Versioned
from isola.testing.runtime import FakeCommand, FakeExecution


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
        return entry

    async def names(self, path: str) -> AsyncIterator[tuple[str, ...]]:
        prefix = path.rstrip("/") + "/"
        below = {p.removeprefix(prefix) for p in self.entries if p.startswith(prefix) and p != "/"}
        found = sorted(name for name in below if "/" not in name)

        async def pieces() -> AsyncIterator[tuple[str, ...]]:
            for start in range(0, len(found), 10):
                yield tuple(found[start : start + 10])

        return pieces()

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


class StandCommand:
    """A command as the door drives it."""

    def __init__(self, instance: Instance, request: ExecRequest) -> None:
        self.instance, self.request = instance, request
        self.execution: Any = None

    async def start(self) -> None:
        spec = ExecSpec(self.request.command, {}, terminal=self.request.interactive)
        self.execution = FakeExecution(spec, _echo)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.execution, name)

    async def close(self) -> None:
        if self.execution is not None:
            await self.execution.close()


async def _echo(command: FakeCommand) -> int:
    while (data := await command.stdin.read()) and data != b"\4":
        await command.stdout.write(data)
    if command.spec.command[0] == "control":
        await command.stderr.write(f"signal {await command.signals.get()}".encode())
    return 7


class StandInstances:
    def __init__(self, operations: Operations, profiles: StandProfiles, clock: Any) -> None:
        self.operations, self.profiles, self.clock = operations, profiles, clock
        self.records: dict[str, Instance] = {}
        self.revisions: dict[str, int] = {}
        self.running: dict[str, Status] = {}
        self.roots: dict[str, StandRoot] = {}
        self.console_text = b"login: "
        self.rendered = 0

    async def look(self) -> None:
        pass

    def unknown(self) -> list[Unknown]:
        return [Unknown("0123456789abcdef", "default", "runc", running=True)]

    def adopt(self, id: str, name: str = "") -> Operation:
        raise NotFound(f"There is no instance {id!r} without a record")

    remove_unknown = adopt

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

    def read(self, name: str, project: str = "default") -> Versioned[Instance]:
        return Versioned(self.get(name), self.revisions[name])

    def again(self, instance: Instance) -> Versioned[Instance] | None:
        found = self.records.get(instance.name)
        return self.read(instance.name) if found is not None and found.id == instance.id else None

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

    async def states(self, instances: Sequence[Instance]) -> Sequence[InstanceState]:
        return [await self.state(instance, disk=False) for instance in instances]

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

    def update(self, name: str, decide: Callable[[Instance], InstanceUpdate]) -> Operation:
        instance = self.get(name)
        update = decide(instance)
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

    def exec(self, name: str, request: ExecRequest) -> Any:
        """Echoes standard input, then says on standard error how it was signalled; its status is 7."""
        instance = self.get(name)
        if not request.command:
            raise InvalidInput("No command was given", field="command")
        return StandCommand(instance, request)

    def console(self, name: str, request: ConsoleRequest) -> Any:
        raise NotFound("This instance has no console")

    async def keep_output(self, instance: Instance, file: str, data: bytes) -> str:
        return f"exec-output/{file}"

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
