"""A runtime without an engine: instances in a dictionary that outlives the object, as a host outlives a daemon."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from isola.errors import HostFailure, InvalidInput, WrongState
from isola.host import Host
from isola.host.process import ProcessRef
from isola.host.sockets import Stream
from isola.model.identity import HostNames
from isola.model.instance import Status
from isola.model.limits import Limits, Usage
from isola.model.probe import Probe
from isola.operations import Operation
from isola.runtimes.driver import ExecSpec, Execution, Running, RunSpec, Runtime, RuntimeCapabilities
from isola.testing.sockets import FakeStream, stream_pair

_REBOOT, _KILLED, _NOT_FOUND = 129, 137, 127
_numbers = itertools.count(100_000)


@dataclass
class FakeCommand:
    """A command that runs inside a fake instance: what a program given to ``FakeRuntime.programs`` works with."""

    spec: ExecSpec
    stdin: FakeStream
    stdout: FakeStream
    stderr: FakeStream
    size: tuple[int, int]
    signals: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    on_resize: Callable[[], None] = lambda: None
    """Called when ``size`` has changed."""


Program = Callable[[FakeCommand], Awaitable[int]]


@dataclass
class FakeInstance:
    """One instance as the pretended host knows it."""

    spec: RunSpec
    running: Running
    limits: Limits
    started: bool = False
    frozen: bool = False
    status: int | None = None
    """Exit status once it has ended."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    signals: list[int] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    console_size: tuple[int, int] = (0, 0)
    consoles: list[FakeStream] = field(default_factory=list)
    commands: list[FakeExecution] = field(default_factory=list)


@dataclass
class FakeState:
    """What a host knows; holds the host, so that no other one takes its place in the table."""

    host: Host
    instances: dict[str, FakeInstance] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    blind: int = 0


class FakeRuntime(Runtime):
    """Keeps state as a host would: another object for the same host and directory finds what this one left."""

    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"container"}), pause=True, live_limits=True, console=True
    )
    _known: ClassVar[dict[tuple[int, Path], FakeState]] = {}
    """What each host knows, by the daemon's directory."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        state = self._known.setdefault((id(host), directory), FakeState(host))
        self.instances = state.instances
        self.logs = state.logs
        self._state = state
        self.programs: dict[str, Program] = {}
        """Program name -> what it does; a name that is not here is not found."""
        self.dying: dict[str, tuple[bytes, int]] = {}
        """First programs that end at once: what they say on the console, and their exit status."""
        self.keeps = False
        """Whether traces of a run cannot be removed now."""
        self.ends_on: frozenset[int] = frozenset({9})
        """Signals that end the first process."""

    @classmethod
    def forget(cls, host: Host, directory: Path) -> None:
        """For tests: give back what is kept of a host."""
        cls._known.pop((id(host), directory), None)

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Always works."""
        return Probe(available=True, version="fake")

    async def create(self, op: Operation, spec: RunSpec) -> Running:
        """Make the instance."""

        async def look() -> bool:
            return spec.id in self.instances

        async def do() -> Running:
            running = Running(spec.id, ProcessRef(next(_numbers), 1), ProcessRef(next(_numbers), 1))
            self.instances[spec.id] = FakeInstance(spec, running, spec.limits)
            self.logs[spec.id] = b""
            return running

        return await op.effect(f"create first process of {spec.id}", do, look=look, undo=lambda: self.remove(spec.id))

    async def start(self, op: Operation, id: str) -> None:
        """A command that is an empty word cannot be started."""

        async def do() -> None:
            instance = self._require(id)
            if instance.spec.command[0] in ("", "/no/such/program"):
                raise HostFailure("The program could not be started", evidence="no such file or directory")
            instance.started = True
            if instance.spec.command[0] in self.dying:
                said, status = self.dying[instance.spec.command[0]]
                self.show(id, said)
                self.end(id, status)

        await op.effect(f"start program of {id}", do)

    async def settled(self, running: Running, *, system: bool) -> int | None:
        """At once."""
        instance = self.instances.get(running.id)
        return _KILLED if instance is None else instance.status

    @property
    def blind(self) -> int:
        """How often a process cannot be looked at, by this daemon or the next."""
        return self._state.blind

    @blind.setter
    def blind(self, times: int) -> None:
        self._state.blind = times

    def _look(self) -> None:
        if self._state.blind:
            self._state.blind -= 1
            raise HostFailure("Cannot look at a process", evidence="too many open files")

    def end(self, id: str, status: int = 0) -> None:
        """For tests: the first process ends."""
        instance = self.instances[id]
        if instance.status is None:
            instance.status = status
            instance.over.set()
            for console in instance.consoles:
                console.close()
            for command in list(instance.commands):
                command.kill(_KILLED)

    def reboot(self, id: str) -> None:
        """For tests: it asks to be started again."""
        self.end(id, _REBOOT)

    def show(self, id: str, data: bytes) -> None:
        """For tests: the instance writes to its console."""
        self.logs[id] = (self.logs[id] + data)[-(1 << 20) :]
        for console in self.instances[id].consoles:
            console.arrive([data])

    async def find(self, id: str) -> Running | None:
        """The instance while it runs."""
        self._look()
        instance = self.instances.get(id)
        return instance.running if instance and instance.status is None else None

    async def status(self, id: str) -> Status:
        """As it is."""
        instance = self.instances.get(id)
        if instance is None or instance.status is not None:
            return Status.STOPPED
        return Status.FROZEN if instance.frozen else Status.RUNNING

    async def ended(self, running: Running) -> int:
        """Once it has."""
        self._look()
        instance = self.instances.get(running.id)
        if instance is None or instance.running != running:
            return _KILLED
        await instance.over.wait()
        return _KILLED if instance.status is None else instance.status

    async def signal(self, id: str, signum: int) -> None:
        """Kept; ends the instance if it is one of ``ends_on``."""
        instance = self.instances.get(id)
        if instance is not None and instance.status is None:
            instance.signals.append(signum)
            if signum in self.ends_on:
                self.end(id, 128 + signum)

    async def pause(self, id: str) -> None:
        """Freeze."""
        self._require(id).frozen = True

    async def resume(self, id: str) -> None:
        """Thaw."""
        if id in self.instances:
            self.instances[id].frozen = False

    async def remove(self, id: str) -> None:
        """Forget it."""
        if self.keeps:
            raise HostFailure("Cannot remove what is left of a run", evidence="too many open files")
        if id in self.instances:
            self.end(id, _KILLED)
            del self.instances[id]

    async def exec(self, id: str, spec: ExecSpec) -> Execution:
        """Run one of ``programs``."""
        instance = self._require(id)
        if instance.frozen:
            raise WrongState("The instance is frozen", remedy="resume it first")
        if not spec.command:
            raise InvalidInput("A command of at least one word is needed", field="command")
        execution = FakeExecution(spec, self.programs.get(spec.command[0].rpartition("/")[2]))
        instance.commands.append(execution)
        return execution

    async def console(self, id: str) -> Stream:
        """Attach."""
        instance = self._require(id)
        near, far = stream_pair()
        near.arrive([])
        instance.consoles.append(near)
        del far
        return near

    async def resize_console(self, id: str, width: int, height: int) -> None:
        """Kept."""
        self._require(id).console_size = (width, height)

    async def console_log(self, id: str) -> bytes:
        """What was shown."""
        return self.logs.get(id, b"")

    async def clear_console_log(self, id: str) -> None:
        """Forget it."""
        if id in self.logs:
            self.logs[id] = b""

    async def limit(self, id: str, limits: Limits) -> None:
        """Kept."""
        self._require(id).limits = limits

    def usage(self, id: str) -> Usage:
        """As a test set it."""
        return self.instances[id].usage if id in self.instances else Usage()

    async def owned(self) -> tuple[str, ...]:
        """All."""
        return tuple(sorted(self.instances))

    def _require(self, id: str) -> FakeInstance:
        instance = self.instances.get(id)
        if instance is None or instance.status is not None:
            raise WrongState("The instance is not running", remedy="start it first")
        return instance


class FakeExecution:
    """A Python function behind streams."""

    def __init__(self, spec: ExecSpec, program: Program | None) -> None:
        self._stdin, far_in = stream_pair()
        self._stdout, far_out = (self._stdin, far_in) if spec.terminal else stream_pair()
        self._stderr, far_err = (self._stdin, far_in) if spec.terminal else stream_pair()
        self._terminal = spec.terminal
        self.command = FakeCommand(spec, far_in, far_out, far_err, (spec.width, spec.height))
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._run(program))

    @property
    def stdin(self) -> Stream:
        """Where to write."""
        return self._stdin

    @property
    def stdout(self) -> Stream:
        """Where to read."""
        return self._stdout

    @property
    def stderr(self) -> Stream | None:
        """None with a terminal."""
        return None if self._terminal else self._stderr

    def resize(self, width: int, height: int) -> None:
        """Set the size."""
        self.command.size = (width, height)
        self.command.on_resize()

    async def signal(self, signum: int) -> None:
        """SIGKILL ends it, the program decides about others."""
        if signum == 9:
            self.kill(_KILLED)
        self.command.signals.put_nowait(signum)

    async def wait(self) -> int:
        """Exit status."""
        return await asyncio.shield(self._status)

    async def close(self) -> None:
        """Kill it."""
        self.kill(_KILLED)
        for stream in (self._stdin, self._stdout, self._stderr):
            stream.close()

    def kill(self, status: int) -> None:
        """End with a status unless it has ended."""
        self._end(status)
        self._task.cancel()

    async def _run(self, program: Program | None) -> None:
        status = _NOT_FOUND if program is None else await program(self.command)
        self._end(status)

    def _end(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)
        for stream in (self.command.stdout, self.command.stderr):
            stream.close()
