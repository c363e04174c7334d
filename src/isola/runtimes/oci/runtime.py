"""Runs instances by an engine that follows the OCI runtime specification, each under a monitor of its own."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import ClassVar

from isola.errors import CommandFailed, HostFailure, InvalidInput, IsolaError, NotFound, Unsupported, WrongState
from isola.host import Host
from isola.host.files import Entry, Root
from isola.host.process import ProcessRef
from isola.host.sockets import Stream
from isola.model.identity import HostNames
from isola.model.instance import Status
from isola.model.limits import Limits, Usage
from isola.model.network import NetworkNamespace
from isola.operations import Operation
from isola.runtimes.driver import ExecSpec, Execution, Running, RunSpec, Runtime, RuntimeCapabilities
from isola.runtimes.oci import monitor
from isola.runtimes.oci.config import PATH, Surroundings, bundle, device_rules, exec_process
from isola.runtimes.oci.console import Console, raw
from isola.runtimes.oci.execution import NOT_EXECUTABLE, NOT_FOUND, execute
from isola.runtimes.oci.layout import MONITOR_SUFFIX, Layout
from isola.runtimes.oci.life import begun
from isola.runtimes.oci.mounts import LXCFS_DIRECTORIES, LXCFS_FILES
from isola.runtimes.oci.users import resolve

_KILLED = 128 + 9
_REMOVALS = 5
"""How often a group is killed and removed that something keeps entering."""


class OciRuntime(Runtime):
    """Everything but the engine's command line, which a driver gives."""

    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"container"}), pause=True, live_limits=True, console=True
    )
    name: ClassVar[str]
    """The driver's, written into the run directory of each instance."""

    hands_terminals_over: ClassVar[bool] = False
    """Whether ``exec`` can give the terminal it makes to us and stay until the command ends."""

    @abstractmethod
    def maker(self, id: str) -> Sequence[str]:
        """The engine's command line up to its options, for making the first process of an instance."""

    @abstractmethod
    async def engine(self, id: str, *, joining: bool) -> Sequence[str]:
        """The same for what comes after; with ``joining`` it makes processes of the instance."""

    @abstractmethod
    def limits_devices(self) -> bool:
        """Whether the engine can enforce the device rules of a configuration on this host."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._known: set[str] = set()
        """Instances that this object has started or adopted."""
        self._before: dict[str, tuple[str, ...]] = {}
        """Command line of a first process before its program, while it is started."""
        self._lxcfs: dict[Path, tuple[str, ...]] = {}
        """What a mounted lxcfs offers; forgotten when a first process could not be made."""

    # --- life ---------------------------------------------------------------------------------------------------

    async def create(self, op: Operation, spec: RunSpec) -> Running:
        """Make the first process, held before its program."""
        id = spec.id
        # From the first process on the kernel keeps the namespace; nothing has to be left anywhere for it.
        async with self._user_namespace(spec) as namespace:
            process = await op.effect(
                f"prepare run of {id}",
                lambda: self._prepare(spec, namespace),
                look=lambda: self._has_traces(id),
                undo=lambda: self.remove(id),
            )
            return await op.effect(f"create first process of {id}", lambda: self._create(spec, process))

    async def start(self, op: Operation, id: str) -> None:
        """Let the program run."""
        await op.effect(f"start program of {id}", lambda: self._start(id))

    async def settled(self, running: Running, *, system: bool) -> int | None:
        """Once it lives None, or the exit status."""
        engine = self._before.pop(running.id, ())
        if await begun(self.host, running, self._group(running.id), engine, system=system):
            return None
        return await self.ended(running)

    async def find(self, id: str) -> Running | None:
        """The instance, if its first process and its monitor are those that were started."""
        found = await self._find(id)
        return found[0] if found else None

    async def status(self, id: str) -> Status:
        """RUNNING, FROZEN or STOPPED."""
        if await self.find(id) is None:
            return Status.STOPPED
        return Status.FROZEN if self.host.cgroups.frozen(self._group(id)) else Status.RUNNING

    async def ended(self, running: Running) -> int:
        """The exit status; a monitor that was killed leaves none, and then its instance counts as killed."""
        await self.host.processes.gone(running.monitor)
        try:
            text = await self.host.files.read(self._layout(running.id).exit_status)
        except NotFound:
            return _KILLED
        return int(text) if text.strip().isdigit() else _KILLED

    async def signal(self, id: str, signum: int) -> None:
        """To the first process."""
        running = await self.find(id)
        if running is not None:
            self.host.processes.signal(running.init, signum)

    async def pause(self, id: str) -> None:
        """Freeze all processes."""
        await self._require(id)
        await self.host.cgroups.freeze(self._group(id), frozen=True)

    async def resume(self, id: str) -> None:
        """Thaw them."""
        await self.host.cgroups.freeze(self._group(id), frozen=False)

    async def remove(self, id: str) -> None:
        """Kill whatever is left and remove every trace; needs nothing but the id, whatever state things are in."""
        await self._remove_groups(id)
        await self.host.files.remove_tree(self._layout(id).run)
        self._known.discard(id)
        self._before.pop(id, None)

    async def _remove_groups(self, id: str) -> None:
        """A process that was on its way into a group may arrive after all in it were killed: then both come again."""
        # The monitor first: while it lives, it or the engine it runs might still make something.
        groups = (self._group(id) + MONITOR_SUFFIX, self._group(id))
        for attempt in range(_REMOVALS):
            for group in groups:
                await self.host.cgroups.kill(group)
            try:
                for group in groups:
                    await self.host.cgroups.remove(group)
                return
            except HostFailure:
                if attempt == _REMOVALS - 1 or not any(map(self.host.cgroups.processes, groups)):
                    raise

    # --- inside -------------------------------------------------------------------------------------------------

    async def exec(self, id: str, spec: ExecSpec) -> Execution:
        """Start a command inside."""
        running, base = await self._require(id)
        if self.host.cgroups.frozen(self._group(id)):
            raise WrongState("The instance is frozen", remedy="resume it first")
        if not spec.command or any("\0" in word for word in (*spec.command, *spec.environment, spec.cwd)):
            raise InvalidInput("A command of at least one word and without NUL is needed", field="command")
        entry = json.dumps(exec_process(spec, base)).encode()
        pid_file = self._layout(id).commands / f"{self.host.clock.token(8)}.pid"
        await self._require_room(pid_file)
        engine = [*await self.engine(id, joining=True), "--root", str(self._layout(id).state)]
        return await execute(
            self.host,
            engine,
            id,
            spec,
            entry=entry,
            pid_file=pid_file,
            handover=self.hands_terminals_over,
            why_not=lambda reason: self._why_not(running.init, spec, reason),
            inside=lambda pid: self._inside(id, pid),
        )

    async def console(self, id: str) -> Stream:
        """Attach to the console."""
        await self._require(id)
        return Console(await self.host.sockets.connect_packets(self._layout(id).attach))

    async def resize_console(self, id: str, width: int, height: int) -> None:
        """Tell the console its window size."""
        await self._require(id)
        self.host.sockets.post(self._layout(id).control, f"1 {max(0, height)} {max(0, width)}\n".encode())

    async def console_log(self, id: str) -> bytes:
        """What the console has shown."""
        try:
            return raw(await self.host.files.read(self._layout(id).console_log))
        except NotFound:
            return b""

    async def clear_console_log(self, id: str) -> None:
        """A running monitor begins a new file in the place of the old one."""
        if await self.find(id) is not None and self.host.sockets.post(self._layout(id).control, b"2 0 0\n"):
            return
        await self.host.files.remove_tree(self._layout(id).console_log)

    async def limit(self, id: str, limits: Limits) -> None:
        """Change the limits of a running instance."""
        await self.host.cgroups.limit(self._group(id), limits)

    def usage(self, id: str) -> Usage:
        """What it uses now."""
        return self.host.cgroups.usage(self._group(id))

    async def owned(self) -> tuple[str, ...]:
        """What bears this engine's name, and traces that bear nobody's."""
        ids = set()
        for id in await self.host.files.names(self.directory / "run"):
            if await self._engine_of(id) in (self.name, ""):
                ids.add(id)
        for group in await self.host.cgroups.children(self.names.cgroup()):
            id = group.removesuffix(MONITOR_SUFFIX)
            if await self._engine_of(id) in (self.name, ""):
                ids.add(id)
        return tuple(sorted(ids))

    def _user_namespace(self, spec: RunSpec) -> AbstractAsyncContextManager[Path]:
        """The one that rules its network namespace: in another one, root inside could not set up its links."""
        if spec.network is None:
            return self.host.namespaces.user(spec.idmap)
        if not isinstance(spec.network, NetworkNamespace):
            raise Unsupported("This runtime connects no taps")
        return self.host.namespaces.user_of_network(spec.network.path)

    # --- how ----------------------------------------------------------------------------------------------------

    async def _prepare(self, spec: RunSpec, namespace: Path) -> object:
        """Everything the engine needs; returns the process as configured."""
        files, layout, group = self.host.files, self._layout(spec.id), self._group(spec.id)
        await files.make_directory(layout.run)
        await files.write(layout.engine, self.name.encode(), durable=False)
        user = await resolve(files, spec.root, spec.idmap, spec.user)
        surroundings = Surroundings(
            architecture=self.host.system.kernel().architecture,
            bounding=self.host.system.capabilities(),
            cgroup=group,
            user_namespace=namespace,
            lxcfs_files=await self._lxcfs_files(spec.lxcfs),
            limit_devices=self.limits_devices(),
        )
        config = bundle(spec, user, surroundings)
        await files.write(layout.config, json.dumps(config).encode(), durable=False)
        await files.make_directory(layout.exits, layout.state, layout.commands, layout.logs, mode=0o700)
        await files.remove_tree(layout.console_log)
        await self.host.cgroups.create(group, owner=spec.idmap.base)
        await self.host.cgroups.create(group + MONITOR_SUFFIX)
        return config["process"]

    async def _lxcfs_files(self, mount: Path | None) -> tuple[str, ...]:
        """Which of the files this lxcfs has: versions differ, and a missing one would fail the whole start."""
        if mount is None:
            return ()
        if mount in self._lxcfs:
            return self._lxcfs[mount]
        there = {
            f"{parent.as_posix()}/{name}"
            for parent in LXCFS_DIRECTORIES
            for name in await self.host.files.names(mount / parent)
        }
        found = tuple(name for name in LXCFS_FILES if name in there)
        if found:
            self._lxcfs[mount] = found
        return found

    async def _create(self, spec: RunSpec, process: object) -> Running:
        layout, group = self._layout(spec.id), self._group(spec.id)
        argv = monitor.arguments(layout, self.maker(spec.id))
        # Only the hierarchies that can be entered without waiting, where there are any: they are enough to find it by.
        cgroups, own = self.host.cgroups, group + MONITOR_SUFFIX
        groups = cgroups.directories(own, legacy=True) or cgroups.directories(own)
        try:
            running = await monitor.create(self.host, layout, monitor.entering(groups, argv))
            self._check_identity(running)
        except HostFailure:
            self._lxcfs.clear()
            raise
        if not self.limits_devices():
            await self.host.cgroups.allow_devices(group, device_rules())
        if spec.system:
            # Service managers hand mounts on to the services they confine. None of it reaches the host: its mounts are
            # slaves where another user namespace sees them. Engines differ in what they make of "rootfsPropagation".
            await self.host.mounts.share(running.init)
        # Limits come now: they shall bind the program, not the engine that prepares its place.
        await self.host.cgroups.limit(group, spec.limits)
        record = {
            "engine": self.name,
            "boot": self.host.system.boot_id(),
            "first": [running.init.pid, running.init.started],
            "monitor": [running.monitor.pid, running.monitor.started],
            "process": process,
        }
        self._known.add(spec.id)
        self._before[spec.id] = self.host.processes.command_line(running.init)
        await self.host.files.write(layout.record, json.dumps(record).encode(), durable=False)
        return running

    async def _start(self, id: str) -> None:
        argv = [*await self.engine(id, joining=False), "--root", str(self._layout(id).state), "start", id]
        try:
            await self.host.processes.run(argv, env={"PATH": PATH})
        except CommandFailed as error:
            raise HostFailure(
                "The program could not be started", evidence=error.evidence, remedy=error.remedy
            ) from error

    async def _require_room(self, pid_file: Path) -> None:
        """An engine that cannot write the number of a command's process fails when the command runs already.

        It then may not even end it. A file like that one shows beforehand whether there is room.
        """
        try:
            await self.host.files.write(pid_file, b"-", durable=False)
        except HostFailure as error:
            raise HostFailure(
                "The command was not started: it needs a file of the host's",
                evidence=error.evidence or error.message,
                remedy="make room on the disk that holds the daemon's directory",
            ) from error
        finally:
            await self.host.files.remove_tree(pid_file)

    async def _end_commands(self, id: str) -> None:
        """Commands end with the daemon that ran them; one that was killed could not see to it."""
        directory = self._layout(id).commands
        for name in await self.host.files.names(directory):
            if name.startswith("."):
                continue  # the engine is about to rename it
            with suppress(NotFound, ValueError):
                command = self._inside(id, int(await self.host.files.read(directory / name)))
                if command is not None:
                    self.host.processes.signal(command, SIGKILL)
            await self.host.files.remove_tree(directory / name)

    def _check_identity(self, running: Running) -> None:
        """The engine and its monitor speak of numbers: what has them must be in the groups that were made for it."""
        group = self._group(running.id)
        for process, place in ((running.init, group), (running.monitor, group + MONITOR_SUFFIX)):
            if process.pid not in self.host.cgroups.processes(place):
                raise HostFailure("The first process ended before it was started")

    def _inside(self, id: str, pid: int) -> ProcessRef | None:
        """The process of the instance that has this number, which may have been given to another one meanwhile.

        First who it is, then where the number is: who is signalled later is the former, whatever the number is by then.
        """
        found = self.host.processes.identify(pid)
        return found if found is not None and pid in self.host.cgroups.processes(self._group(id)) else None

    async def _why_not(self, first: ProcessRef, spec: ExecSpec, reason: str) -> int:
        """Why the engine could not run a command: by a look at the file, as the engine's messages are not a promise.

        A file that the user may execute is not the cause. Raises HostFailure then.
        """
        program = spec.command[0]
        search = (spec.environment.get("PATH") or PATH).split(":")
        places = [f"{spec.cwd}/{program}"] if "/" in program else [f"{place}/{program}" for place in search]
        if program.startswith("/"):
            places = [program]
        try:
            async with self.host.files.root(process=first) as root:
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
            remedy="see whether it has processes (limits.processes), memory and disk left, and its interpreter",
        )

    async def _require(self, id: str) -> tuple[Running, dict[str, object]]:
        found = await self._find(id)
        if found is None:
            raise WrongState("The instance is not running", remedy="start it first")
        return found

    async def _find(self, id: str) -> tuple[Running, dict[str, object]] | None:
        """The instance with its process as configured."""
        record = await self._record(id)
        try:
            first, watcher = (ProcessRef(*map(int, record[who])) for who in ("first", "monitor"))  # type: ignore[call-overload]
            process = dict(record["process"])  # type: ignore[call-overload]
        except (KeyError, TypeError, ValueError):
            return None
        if not (self.host.processes.alive(first) and self.host.processes.alive(watcher)):
            return None
        if id not in self._known:
            self._known.add(id)
            await self._end_commands(id)
        return Running(id, first, watcher), process

    async def _record(self, id: str) -> dict[str, object]:
        """Empty where nothing is written that was written since the boot and by this driver."""
        try:
            record = json.loads(await self.host.files.read(self._layout(id).record))
        except (NotFound, ValueError):
            return {}
        ours = {"boot": self.host.system.boot_id(), "engine": self.name}
        return record if isinstance(record, dict) and ours.items() <= record.items() else {}

    async def _engine_of(self, id: str) -> str:
        try:
            return (await self.host.files.read(self._layout(id).engine)).decode()
        except NotFound:
            return ""

    async def _has_traces(self, id: str) -> bool:
        return await self.host.files.exists(self._layout(id).run) or await self.host.cgroups.exists(self._group(id))

    def _layout(self, id: str) -> Layout:
        return Layout.of(self.directory, id)

    def _group(self, id: str) -> str:
        return self.names.cgroup(id)


async def _entry(root: Root, path: str) -> Entry | None:
    try:
        return await root.stat(path)
    except IsolaError:
        return None


def _may_execute(entry: Entry, user: int) -> bool:
    """Whether this user may surely execute it: root by any of the permission bits, others by that for everybody."""
    return entry.kind == "file" and entry.mode & (0o001 if user else 0o111) != 0
