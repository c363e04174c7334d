"""A guest of an OCI engine: processes of the host in separate namespaces and control groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL
from typing import ClassVar, Protocol

from isola.errors import HostFailure, InvalidInput, IsolaError, NotFound, Unsupported, WrongState
from isola.host import Host
from isola.host.guest_mounts import Tree
from isola.host.nodes import ANY_ACCESS, DeviceNumber
from isola.host.process import ProcessRef
from isola.host.roots import Entry, Root
from isola.host.sockets import Packets, Stream
from isola.model.instance import InterfaceState
from isola.model.limits import Limits, Usage
from isola.model.network import NetworkNamespace
from isola.model.stats import GroupStats
from isola.runtimes.capabilities import Capability, RuntimeCapabilities
from isola.runtimes.guest import Execution
from isola.runtimes.oci.caller import Caller
from isola.runtimes.oci.config import PATH, device_rules, exec_process
from isola.runtimes.oci.console import Attached, Console
from isola.runtimes.oci.execution import NOT_EXECUTABLE, NOT_FOUND, execute
from isola.runtimes.oci.layout import Layout
from isola.runtimes.oci.life import begun
from isola.runtimes.oci.record import Found
from isola.runtimes.output import Attachment
from isola.runtimes.spec import ExecSpec, RunSpec, Shareable, TapNic

_KILLED = 128 + 9


class Engine(Protocol):
    """The part of the runtime that a guest uses."""

    host: Host
    capabilities: ClassVar[RuntimeCapabilities]
    hands_terminals_over: bool

    async def joiner(self, id: str) -> Caller: ...

    def layout(self, id: str) -> Layout: ...

    def group(self, id: str) -> str: ...

    def park(self, id: str, packets: Packets) -> None: ...


class OciGuest:
    """Identified by its processes; all other state is read from the host."""

    def __init__(self, runtime: Engine, found: Found, *, before: tuple[str, ...] = ()) -> None:
        self._runtime = runtime
        self._host = runtime.host
        self.processes = found.run
        """For callers that depend on an OCI engine."""
        self._process = found.process
        self._before = before
        """Command line of the first process before it executes its program, if this daemon has started it."""
        self._layout = runtime.layout(found.run.id)
        self._group = runtime.group(found.run.id)
        self.plan: RunSpec | None = found.plan
        self._started = found.plan
        self._failure = ""

    @property
    def id(self) -> str:
        """The instance's."""
        return self.processes.id

    @property
    def world(self) -> ProcessRef:
        """The process that has its root and all that is mounted in it."""
        return self.processes.init

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OciGuest) and self.processes == other.processes

    def __hash__(self) -> int:
        return hash(self.processes)

    # --- life ---------------------------------------------------------------------------------------------------

    async def settled(self) -> int | None:
        """Determined by its first process and its control group."""
        if await begun(self._host, self.processes.init, self._group, self._before, system=self._started.system):
            return None
        return await self.ended()

    async def ended(self) -> int:
        """The exit status; if the monitor was killed there is none, and the instance counts as killed."""
        await self._host.processes.gone(self.processes.monitor)
        try:
            text = await self._host.files.read(self._layout.exit_status)
        except NotFound:
            text = b""
        if text.strip().isdigit():
            return int(text)
        self._failure = "Its monitor was killed or has failed"
        return _KILLED

    async def request_stop(self) -> None:
        """Sends the stop signal of its image."""
        await self.signal(self._started.stop_signal)

    async def signal(self, signum: int) -> None:
        """To the first process."""
        if self._alive():
            self._host.processes.signal(self.processes.init, signum)

    def frozen(self) -> bool:
        """Whether its group is."""
        return self._host.cgroups.frozen(self._group)

    async def pause(self) -> None:
        """Freeze all processes."""
        self._require()
        await self._host.cgroups.freeze(self._group, frozen=True)

    async def resume(self) -> None:
        """Thaw them."""
        if self.frozen():
            await self._host.cgroups.freeze(self._group, frozen=False)

    async def checkpoint(self, to: Path) -> None:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.CHECKPOINT)

    # --- inside -------------------------------------------------------------------------------------------------

    async def exec(self, spec: ExecSpec) -> Execution:
        """By the engine's ``exec``."""
        self._require()
        if self.frozen():
            raise WrongState("The instance is frozen", remedy="resume it first")
        if not spec.command or any("\0" in text for text in (*spec.command, *spec.environment, spec.cwd)):
            raise InvalidInput("The command must have at least one argument, and no NUL", field="command")
        pid_file = self._layout.commands / f"{self._host.clock.token(8)}.pid"
        await self._require_room(pid_file)
        return await self._execute(spec, pid_file)

    async def _execute(self, spec: ExecSpec, pid_file: Path) -> Execution:
        engine = await self._runtime.joiner(self.id)
        # Beside the first process, commands would be limited as a service manager limits itself.
        idmap, system = self._started.idmap, self._started.system
        group = await self._host.cgroups.leaf(self._group, owner=idmap.base if idmap else None, always=system)
        return await execute(
            self._host,
            replace(engine, argv=[*engine.argv, "--root", str(self._layout.state)]),
            self.id,
            spec,
            entry=json.dumps(exec_process(spec, self._process)).encode(),
            pid_file=pid_file,
            handover=self._runtime.hands_terminals_over,
            why_not=lambda reason: self._why_not(spec, reason),
            inside=self.process_inside,
            group=group,
        )

    def files(self) -> AbstractAsyncContextManager[Root]:
        """As its first process sees them."""
        return self._host.files.root(process=self.world, idmap=self._started.idmap)

    async def console(self) -> Stream:
        """By the monitor's socket."""
        self._require_terminal()
        return Console(await self._host.sockets.connect_packets(self._layout.attach))

    async def display(self, protocol: str = "spice") -> Stream:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.DISPLAY)
        raise AssertionError

    async def attach(self) -> Attachment:
        """By the monitor's socket."""
        self._require()
        return Attached(await self._host.sockets.connect_packets(self._layout.attach), self._park)

    def _park(self, packets: Packets) -> None:
        """Only an input that a client can end has to be protected from its end."""
        if self._started.stdin and self._started.stdin_once and not self._started.terminal:
            self._runtime.park(self.id, packets)
        else:
            packets.close()

    async def resize_console(self, width: int, height: int) -> None:
        """By the monitor's FIFO."""
        self._require_terminal()
        self._host.sockets.post(self._layout.control, f"1 {max(0, height)} {max(0, width)}\n".encode())

    # --- watched ------------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """PID of the first process on the host."""
        return self.processes.init.pid

    def numbers(self) -> tuple[int, ...]:
        """Those of its group."""
        return tuple(self._host.cgroups.processes(self._group))

    def stats(self) -> GroupStats:
        return self._host.cgroups.stats(self._group)

    def usage(self) -> Usage:
        """Of its group."""
        return self._host.cgroups.usage(self._group)

    def oom_killed(self) -> bool:
        """Counted by its group."""
        return self._host.cgroups.oom_kills(self._group) > 0

    def failure(self) -> str:
        """What runs it is the host's kernel; its monitor may have been killed."""
        return self._failure

    def interfaces(self) -> tuple[InterfaceState, ...]:
        """As its first process sees them."""
        return self._host.namespaces.interfaces(self.processes.init)

    def clients(self) -> int:
        """In its network namespace."""
        return self._host.namespaces.clients(self.processes.init)

    async def limit(self, limits: Limits) -> None:
        """Of its group."""
        await self._host.cgroups.limit(self._group, limits)

    def refused_ports(self) -> Mapping[str, int]:
        """By the programs of its group."""
        return self._host.cgroups.refused_ports(self._group)

    async def refused_calls(self) -> Mapping[tuple[int, str], int]:
        """The kernel's audit reports them."""
        return {}

    async def plug(self, nic: TapNic) -> None:
        """It shares a namespace with its NICs."""

    async def unplug(self, link: str) -> None:
        """The same."""

    async def keep_network(self, namespace: NetworkNamespace) -> None:
        """Keeps that of its first process."""
        await self._host.namespaces.keep_network(self.processes.init, namespace.path)

    # --- devices ------------------------------------------------------------------------------------------------

    async def mount(self, tree: Tree, target: str) -> None:
        """In the mount namespace of its first process."""
        idmap = self._started.idmap
        await self._host.guest_mounts.put(self.world, tree, target, owner=idmap.base if idmap else 0)

    async def unmount(self, number: int) -> None:
        """The same."""
        await self._host.guest_mounts.take(self.world, number)

    async def mounts(self) -> frozenset[int]:
        """From its mount table."""
        return await self._host.guest_mounts.there(self.world)

    async def let_open(self, device: DeviceNumber, *, allowed: bool, access: str = ANY_ACCESS) -> None:
        """By a rule of its control group."""
        rules = device_rules(more=self._started.confinement.device_rules)
        if not allowed and any(rule.rpartition(" ")[0] in (device.rule, "a *:*") for rule in rules):
            return
        access = access if allowed else ANY_ACCESS
        if not await self._host.cgroups.allow_device(self._group, device.rule, allowed=allowed, access=access):
            raise Unsupported(
                "Devices cannot be added on this host",
                evidence="cgroup v2 alone has no device list that can be extended",
            )

    def root(self) -> AbstractContextManager[int]:
        """Of its first process."""
        return self._host.guest_mounts.root(self.world)

    # --- how ----------------------------------------------------------------------------------------------------

    def namespace(self, kind: Shareable) -> AbstractContextManager[Path]:
        """The file of a namespace of its first process."""
        return self._host.namespaces.of_process(self.processes.init, kind.value)

    def process_inside(self, pid: int) -> ProcessRef | None:
        """The process of the instance with this PID, which may have been reused meanwhile.

        It is identified first, and its control group is checked afterwards, so that a reused PID is never
        accepted.
        """
        found = self._host.processes.identify(pid)
        return found if found is not None and self._host.cgroups.holds(self._group, pid) else None

    async def end_command(self, name: str) -> None:
        """Kill a command of an earlier daemon, by the name of its PID file. Raises NotFound, ValueError."""
        command = self.process_inside(int(await self._host.files.read(self._layout.commands / name)))
        if command is not None:
            self._host.processes.signal(command, SIGKILL)

    def _alive(self) -> bool:
        return all(map(self._host.processes.alive, (self.processes.init, self.processes.monitor)))

    def _require(self) -> None:
        if not self._alive():
            raise WrongState("The instance is not running", remedy="start it first")

    def _require_terminal(self) -> None:
        self._require()
        if not self._started.terminal:
            raise Unsupported("The instance was started without a terminal", remedy="read its log instead")

    async def _require_room(self, file: Path) -> None:
        """An engine that cannot write the PID file of a command fails when the command is already running.

        It may not even kill it. Writing a similar file first shows whether there is space.
        """
        try:
            await self._host.files.write(file, b"-", durable=False)
        except HostFailure as error:
            raise HostFailure(
                "The command was not started: there is no room for a file that the engine writes",
                evidence=error.evidence or error.message,
                remedy="make room on the disk that holds the daemon's directory",
            ) from error
        finally:
            await self._host.files.remove_tree(file)

    async def _why_not(self, spec: ExecSpec, reason: str) -> int:
        """The exit status of a command that the engine could not run, from its file: messages differ by version.

        Raises HostFailure if the user may execute the file, since the cause is another one then.
        """
        program = spec.command[0]
        search = (spec.environment.get("PATH") or PATH).split(":")
        places = [f"{spec.cwd}/{program}"] if "/" in program else [f"{place}/{program}" for place in search]
        if program.startswith("/"):
            places = [program]
        try:
            async with self._host.files.root(process=self.world) as root:
                for place in places:
                    if (entry := await _entry(root, place)) is not None:
                        if not _may_execute(entry, spec.user):
                            return NOT_EXECUTABLE
                        break
                else:
                    return NOT_FOUND
        except IsolaError:
            return NOT_EXECUTABLE
        raise HostFailure(
            "The command could not be started",
            evidence=reason or "the engine died",
            remedy="check limits.processes, free memory and disk space, and the interpreter of a script",
        )


async def _entry(root: Root, path: str) -> Entry | None:
    try:
        return await root.stat(path)
    except IsolaError:
        return None


def _may_execute(entry: Entry, user: int) -> bool:
    """Whether this user may execute it: root with any of the execute bits, other users with that for others."""
    return entry.kind == "file" and entry.mode & (0o001 if user else 0o111) != 0
