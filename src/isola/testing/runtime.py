"""A runtime without an engine: the state of instances persists when the runtime object is replaced."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from isola.errors import HostFailure, InvalidInput, Unsupported, WrongState
from isola.host import Host
from isola.host.guest_mounts import Tree
from isola.host.nodes import ANY_ACCESS, DeviceNumber
from isola.host.roots import Root as FilesOfRoot
from isola.host.sockets import Stream
from isola.model.disk import Disk
from isola.model.identity import HostNames, IdRange
from isola.model.instance import InterfaceState
from isola.model.last_run import Ending
from isola.model.limits import Limits, Usage
from isola.model.network import HostTap, NetworkNamespace
from isola.model.probe import Probe
from isola.model.stats import GroupStats
from isola.operations import Operation
from isola.runtimes import (
    CONSOLE_LOG,
    Capability,
    Channel,
    ExecSpec,
    Execution,
    Guest,
    Held,
    LogLine,
    Restore,
    RunSpec,
    Runtime,
    RuntimeCapabilities,
    TapNic,
)
from isola.runtimes.capabilities import NO_DISKS, NO_FIRMWARE, NO_SCREEN
from isola.testing.attachments import FakeAttachment
from isola.testing.commands import KILLED, FakeExecution, Program
from isola.testing.log_files import FakeLogFiles, logged
from isola.testing.namespaces import LOOPBACK
from isola.testing.sockets import FakeStream, stream_pair

_REBOOT = 129
_numbers = itertools.count(100_000)


@dataclass
class FakeInstance:
    """State of one instance on the fake host."""

    spec: RunSpec
    number: int
    """Unique for each run."""
    limits: Limits
    started: bool = False
    frozen: bool = False
    memory: bytes = b""
    """What its programs know; kept by checkpoints."""
    status: int | None = None
    """Exit status once it has ended."""
    ended_at: datetime | None = None
    oom_killed: bool = False
    failure: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    signals: list[int] = field(default_factory=list)
    stops: int = 0
    """Number of stop requests."""
    usage: Usage = field(default_factory=Usage)
    interfaces: tuple[InterfaceState, ...] = (LOOPBACK, InterfaceState("eth0"))
    nics: list[TapNic] = field(default_factory=list)
    mounts: dict[int, str] = field(default_factory=dict)
    """Mounts in it: mount id -> path."""
    disks: dict[str, Disk] = field(default_factory=dict)
    disk_sizes: dict[str, int] = field(default_factory=dict)
    devices: set[DeviceNumber] = field(default_factory=set)
    """Devices that it may open."""
    access: dict[DeviceNumber, str] = field(default_factory=dict)
    """How it may open them."""
    console_size: tuple[int, int] = (0, 0)
    consoles: list[FakeStream] = field(default_factory=list)
    displays: list[FakeStream] = field(default_factory=list)
    """The far ends of connections to its screen."""
    refused_ports: dict[str, int] = field(default_factory=dict)
    refused_calls: dict[tuple[int, str], int] = field(default_factory=dict)
    clients: int = 0  # that others have opened to it
    attached: list[FakeAttachment] = field(default_factory=list)
    input: bytearray = field(default_factory=bytearray)
    """What attached clients wrote, where it has an input."""
    input_ended: bool = False
    commands: list[FakeExecution] = field(default_factory=list)


@dataclass
class FakeState:
    """State on a host; keeps a reference to the host, so that its id is not reused as a key."""

    host: Host
    instances: dict[str, FakeInstance] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    lines: dict[str, list[LogLine]] = field(default_factory=dict)
    blind: int = 0


def _place(host: Host, directory: Path) -> tuple[int, Path]:
    """The key of the state. The process table identifies the host: tests may use several host objects with one
    table.
    """
    return id(getattr(host, "processes", host)), directory


class FakeRuntime(Runtime):
    """Its state belongs to the host: another object for the same host and directory finds the same instances."""

    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"container"}),
        lacks={Capability.DISPLAY: NO_SCREEN, Capability.FIRMWARE: NO_FIRMWARE, **NO_DISKS},
    )
    _known: ClassVar[dict[tuple[int, Path, str], FakeState]] = {}
    """State by process table of the host, directory of the daemon, and kind of runtime."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        state = self._known.setdefault((*_place(host, directory), type(self).__name__), FakeState(host))
        self.instances = state.instances
        self.logs = state.logs
        self._state = state
        self.programs: dict[str, Program] = {}
        """Program name -> implementation; other programs do not exist."""
        self.dying: dict[str, tuple[bytes, int]] = {}
        """First programs that exit at once: their console output and exit status."""
        self.saves = True
        """Whether there is room for saved states."""
        self.refuses_held = False
        """Whether no first process can be created."""
        self.keeps = False
        """Whether removing a run fails."""
        self.refuses: Callable[[str, Limits], bool] = lambda id, limits: False
        """Whether setting these limits fails."""
        self.ends_on: frozenset[int] = frozenset({9})
        """Signals that end the first process."""

    @classmethod
    def forget(cls, host: Host, directory: Path) -> None:
        """For tests: free the state of a host, of all kinds."""
        for key in [key for key in cls._known if key[:2] == _place(host, directory)]:
            del cls._known[key]

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Always works."""
        return Probe(available=True, version="fake")

    async def run(
        self, op: Operation, spec: RunSpec, held: Held | None = None, *, restore: Restore | None = None
    ) -> Guest:
        """Fails if the command is an empty string."""
        self.require_supported(spec)
        memory = b""
        if restore is not None:
            self.capabilities.require(Capability.CHECKPOINT)
            memory = await self.host.files.read(restore.path / "memory")

        async def look() -> bool:
            return spec.id in self.instances

        async def make() -> None:
            if self.refuses_held:
                raise HostFailure("The first process could not be created", evidence="no memory is left")
            self.instances[spec.id] = FakeInstance(spec, next(_numbers), spec.limits, nics=list(spec.nics))
            self.logs[spec.id], self._state.lines[spec.id] = b"", []
            if spec.log.fresh:
                await self.host.log_files.remove(self.directory / "logs" / spec.id / CONSOLE_LOG)

        async def start() -> None:
            program = spec.command[0]
            if program in ("", "/no/such/program"):
                raise HostFailure("The program could not be started", evidence="no such file or directory")
            self.instances[spec.id].started = True
            self.instances[spec.id].memory = memory
            if program in self.dying:
                text, status = self.dying[program]
                self.show(spec.id, text)
                self.end(spec.id, status)

        await op.effect(f"create first process of {spec.id}", make, look=look, undo=lambda: self.remove(spec.id))
        guest = self.guest(spec.id)
        if held is not None:
            await held(guest)
        if restore is not None:
            await restore.spend()
        await op.effect(f"start program of {spec.id}", start)
        return guest

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported."""
        if spec.root.kind is not self.capabilities.root or spec.idmap is None or isinstance(spec.network, HostTap):
            raise Unsupported("A container has a directory for its root, ids, and a network namespace")

    def guest(self, id: str) -> FakeGuest:
        """The instance, whether or not it has ended."""
        return FakeGuest(self, id, self.instances[id].number)

    @property
    def blind(self) -> int:
        """How many more attempts to inspect a process fail, in this daemon or the next."""
        return self._state.blind

    @blind.setter
    def blind(self, times: int) -> None:
        self._state.blind = times

    def look(self) -> None:
        """Raises HostFailure as long as inspecting processes fails."""
        if self._state.blind:
            self._state.blind -= 1
            raise HostFailure("Cannot examine a process", evidence="too many open files")

    def end(self, id: str, status: int = 0, *, oom_killed: bool = False) -> None:
        """For tests: the first process ends."""
        instance = self.instances[id]
        if instance.status is None:
            instance.oom_killed = oom_killed
            instance.status, instance.ended_at = status, self.host.clock.now()
            instance.over.set()
            for stream in (*instance.consoles, *instance.displays):
                stream.close()
            for attached in instance.attached:
                attached.say(None)
            for command in list(instance.commands):
                command.kill(KILLED)

    def reboot(self, id: str) -> None:
        """For tests: a reboot from inside."""
        self.end(id, _REBOOT)

    def show(self, id: str, data: bytes, channel: Channel = Channel.STDOUT) -> None:
        """For tests: the first process writes; what it writes to a terminal comes out of its output."""
        channel = Channel.STDOUT if self.instances[id].spec.terminal else channel
        self.logs[id] = (self.logs[id] + data)[-(1 << 20) :]
        now = self.host.clock.now()
        log = self.instances[id].spec.log
        if log.kept and isinstance(self.host.log_files, FakeLogFiles):
            path = self.directory / "logs" / id / CONSOLE_LOG
            self.host.log_files.append(path, logged(now, channel.value, data))
        self._state.lines.setdefault(id, []).extend(LogLine(now, channel, line) for line in data.splitlines(True))
        for attached in self.instances[id].attached:
            attached.say((channel, data))
        for console in self.instances[id].consoles:
            console.arrive([data])

    async def find(self, id: str) -> Guest | None:
        """The instance while it runs."""
        self.look()
        return self.guest(id) if id in self.instances and self.instances[id].status is None else None

    async def ending(self, id: str) -> Ending | None:
        """Until it is removed."""
        self.look()
        found = self.instances.get(id)
        if found is None or found.status is None:
            return None
        return Ending(found.status, found.ended_at or self.host.clock.now(), found.oom_killed, found.failure)

    async def remove(self, id: str) -> None:
        if self.keeps:
            raise HostFailure("Cannot remove what is left of a run", evidence="too many open files")
        if id in self.instances:
            self.end(id, KILLED)
            del self.instances[id]

    async def owned(self) -> tuple[str, ...]:
        return tuple(sorted(self.instances))

    async def console_log(self, id: str) -> bytes:
        """The output so far."""
        return self.logs.get(id, b"")

    async def output(self, id: str) -> tuple[LogLine, ...]:
        """The same by line."""
        return tuple(self._state.lines.get(id, ()))

    async def clear_console_log(self, id: str) -> None:
        """Truncate it."""
        await self.host.log_files.remove(self.directory / "logs" / id / CONSOLE_LOG)
        if id in self.logs:
            self.logs[id], self._state.lines[id] = b"", []


class FakeGuest:
    """One run; the state is the runtime's."""

    def __init__(self, runtime: FakeRuntime, id: str, run: int) -> None:
        self._runtime = runtime
        self._run = run
        self._id = id

    @property
    def id(self) -> str:
        """The instance's."""
        return self._id

    @property
    def plan(self) -> RunSpec | None:
        """The spec with which it was started."""
        instance = self._instance()
        return instance.spec if instance is not None else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FakeGuest) and self._run == other._run

    def __hash__(self) -> int:
        return self._run

    def _instance(self) -> FakeInstance | None:
        """The state of this run, ended or not, until it is removed."""
        found = self._runtime.instances.get(self._id)
        return found if found is not None and found.number == self._run else None

    def _require(self) -> FakeInstance:
        instance = self._instance()
        if instance is None or instance.status is not None:
            raise WrongState("The instance is not running", remedy="start it first")
        return instance

    def _pluggable(self, capability: Capability = Capability.MOUNTS) -> FakeInstance:
        self._runtime.capabilities.require(capability)
        return self._require()

    def _require_terminal(self) -> FakeInstance:
        instance = self._require()
        if not instance.spec.terminal:
            raise Unsupported("The instance was started without a terminal")
        return instance

    async def settled(self) -> int | None:
        instance = self._instance()
        return KILLED if instance is None else instance.status

    async def ended(self) -> int:
        self._runtime.look()
        if (instance := self._instance()) is None:
            return KILLED
        await instance.over.wait()
        return KILLED if instance.status is None else instance.status

    async def request_stop(self) -> None:
        """Sends its stop signal."""
        if (instance := self._instance()) is not None:
            instance.stops += 1
            await self.signal(instance.spec.stop_signal)

    async def signal(self, signum: int) -> None:
        """Recorded; ends the instance if it is in ``ends_on``."""
        instance = self._instance()
        if instance is not None and instance.status is None:
            instance.signals.append(signum)
            if signum in self._runtime.ends_on:
                self._runtime.end(self._id, 128 + signum)

    def frozen(self) -> bool:
        instance = self._instance()
        return instance is not None and instance.frozen

    async def pause(self) -> None:
        """Freeze."""
        self._require().frozen = True

    async def resume(self) -> None:
        """Thaw."""
        if (instance := self._instance()) is not None:
            instance.frozen = False

    async def checkpoint(self, to: Path) -> None:
        """Writes its memory to a file, and ends with status 0."""
        instance = self._require()
        self._runtime.capabilities.require(Capability.CHECKPOINT)
        if instance.frozen:
            raise WrongState("The instance is frozen", remedy="resume it first")
        await self._keep(to)
        self._runtime.end(self._id, 0)

    async def _keep(self, to: Path) -> None:
        await self._runtime.host.files.write(to / "memory", self._require().memory)
        if not self._runtime.saves:
            raise HostFailure("The state of the instance could not be saved", evidence="no space left on device")

    async def exec(self, spec: ExecSpec) -> Execution:
        """Run one of ``programs``."""
        instance = self._require()
        if instance.frozen:
            raise WrongState("The instance is frozen", remedy="resume it first")
        if not spec.command:
            raise InvalidInput("A command needs at least one argument", field="command")
        execution = FakeExecution(spec, self._runtime.programs.get(spec.command[0].rpartition("/")[2]))
        instance.commands.append(execution)
        return execution

    @asynccontextmanager
    async def files(self) -> AsyncIterator[FilesOfRoot]:
        spec = self._require().spec
        async with self._runtime.host.files.root(spec.root.path, idmap=spec.idmap) as root:
            yield root

    async def console(self) -> Stream:
        """Attach."""
        instance = self._require_terminal()
        near, _ = stream_pair()
        instance.consoles.append(near)
        return near

    async def display(self, protocol: str = "spice") -> Stream:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.DISPLAY)
        raise AssertionError

    async def attach(self) -> FakeAttachment:
        instance = self._require()
        instance.attached.append(FakeAttachment(instance))
        return instance.attached[-1]

    async def resize_console(self, width: int, height: int) -> None:
        self._require_terminal().console_size = (width, height)

    @property
    def number(self) -> int:
        """Of the run."""
        return self._run

    def numbers(self) -> tuple[int, ...]:
        """The number of the run, unless it has ended."""
        instance = self._instance()
        return (self._run,) if instance is not None and instance.status is None else ()

    def stats(self) -> GroupStats:
        """The part that ``usage`` has."""
        used = self.usage()
        return GroupStats(cpu_ns=used.cpu_ns, memory=used.memory, processes=used.processes)

    def usage(self) -> Usage:
        """As set by a test."""
        instance = self._instance()
        return instance.usage if instance is not None else Usage()

    def failure(self) -> str:
        """As set by a test."""
        instance = self._instance()
        return "" if instance is None else instance.failure

    def oom_killed(self) -> bool:
        return (instance := self._instance()) is not None and instance.oom_killed

    def interfaces(self) -> tuple[InterfaceState, ...]:
        """As set by a test."""
        instance = self._instance()
        return instance.interfaces if instance is not None and instance.status is None else ()

    def clients(self) -> int:
        return instance.clients if (instance := self._instance()) is not None and instance.status is None else 0

    def refused_ports(self) -> Mapping[str, int]:
        return dict(self._require().refused_ports)

    async def refused_calls(self) -> Mapping[tuple[int, str], int]:
        return dict(instance.refused_calls) if (instance := self._instance()) is not None else {}

    async def limit(self, limits: Limits) -> None:
        instance = self._require()
        if self._runtime.refuses(self._id, limits):
            raise HostFailure("The kernel refuses these limits")
        instance.limits = limits

    async def mount(self, tree: Tree, target: str) -> None:
        """Recorded in ``FakeInstance.mounts``."""
        self._pluggable().mounts[tree.number] = target

    async def unmount(self, number: int) -> None:
        """Removed from ``FakeInstance.mounts``."""
        self._pluggable().mounts.pop(number, None)

    async def mounts(self) -> frozenset[int]:
        """Their numbers."""
        return frozenset(self._pluggable().mounts)

    async def let_open(self, device: DeviceNumber, *, allowed: bool, access: str = ANY_ACCESS) -> None:
        """Recorded in ``FakeInstance.devices`` and ``access``."""
        instance = self._pluggable(Capability.DEVICES)
        (instance.devices.add if allowed else instance.devices.discard)(device)
        instance.access[device] = access if allowed else ""

    @contextmanager
    def root(self) -> Iterator[int]:
        """A number."""
        self._pluggable(Capability.SOCKETS)
        yield 0

    async def plug(self, nic: TapNic) -> None:
        """Raises Unsupported: its NICs are in a network namespace."""

    async def unplug(self, link: str) -> None:
        """The same."""

    async def keep_network(self, namespace: NetworkNamespace) -> None:
        """Records the namespace with the ids of its plan."""
        idmap = self._require().spec.idmap
        await self._runtime.host.namespaces.make_network(namespace.path, idmap or IdRange(0))
