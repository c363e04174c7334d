"""Runs instances by an engine that implements the OCI runtime specification, each under its own monitor."""

from __future__ import annotations

import json
import logging
import posixpath
import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from isola.errors import CommandFailed, HostFailure, InvalidInput, IsolaError, NotFound, Unsupported, WrongState
from isola.host import Host
from isola.host.cancellation import all_done
from isola.host.guest_mounts import Graft
from isola.model.identity import HostNames
from isola.model.last_run import Ending
from isola.model.network import HostNetwork, NetworkNamespace
from isola.operations import Operation
from isola.runtimes import plan
from isola.runtimes.capabilities import NO_DISKS, NO_FIRMWARE, NO_SCREEN, Capability, Lack, RuntimeCapabilities
from isola.runtimes.demands import require_obeyed
from isola.runtimes.driver import Held, Restore
from isola.runtimes.guest import Guest
from isola.runtimes.lxcfs import answering, lost
from isola.runtimes.oci import monitor, record
from isola.runtimes.oci.caller import Caller
from isola.runtimes.oci.config import PATH, Surroundings, bundle, device_rules, given
from isola.runtimes.oci.guest import OciGuest
from isola.runtimes.oci.layout import MONITOR_SUFFIX
from isola.runtimes.oci.monitored import MonitoredRuntime
from isola.runtimes.oci.mounts import LXCFS_DIRECTORIES, LXCFS_FILES
from isola.runtimes.oci.record import Found, Run
from isola.runtimes.spec import RootKind, RunSpec, Shareable
from isola.runtimes.users import resolve

log = logging.getLogger(__name__)
_LINKS = 8


class OciRuntime(MonitoredRuntime):
    """All except the engine's command line, which is defined by the driver."""

    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"container"}),
        lacks={
            Capability.CHECKPOINT: Lack(
                "The state of a running container cannot be saved yet", remedy="stop it, or take a snapshot of its root"
            ),
            Capability.DISPLAY: NO_SCREEN,
            Capability.FIRMWARE: NO_FIRMWARE,
            **NO_DISKS,
        },
    )
    limits_itself: bool = False
    """Whether resource limits are set by the first process itself, which may lower them without a capability."""
    reports_refusals: bool = False
    """Whether it can ask the kernel to report system calls that the filter has refused."""
    hands_terminals_over: bool = False
    """Whether ``exec`` can send its terminal to the daemon and stay until the command ends."""

    @abstractmethod
    async def maker(self, id: str, given: Sequence[Path], restore: Path | None = None) -> Caller:
        """The caller for creating the first process of an instance, which needs these paths of the host."""

    @abstractmethod
    async def joiner(self, id: str) -> Caller:
        """The caller for creating processes in a running instance."""

    @abstractmethod
    def limits_devices(self) -> bool:
        """Whether the engine can enforce the device rules of a configuration on this host."""

    async def program(self) -> str:
        """Path of the engine's program: a sealed copy, so that it does not copy itself in every call."""
        return str(await self.host.system.sealed_program(self.name) or self.name)

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._lxcfs: dict[Path, tuple[str, ...]] = {}
        """Files that a mounted lxcfs has; cleared if a first process could not be created."""

    async def run(
        self, op: Operation, spec: RunSpec, held: Held | None = None, *, restore: Restore | None = None
    ) -> Guest:
        """Create the first process, which waits before it executes its program, and start it."""
        id = spec.id
        self.require_supported(spec)
        if restore is not None:
            self.capabilities.require(Capability.CHECKPOINT)
        self._require_limits(spec)
        # Once the first process exists, it keeps the namespaces alive.
        async with self._user_namespace(spec) as namespace, self._joined(spec) as joined:
            found = await self._first(op, spec, namespace, joined, restore)
        guest = await self.guest_of(found, before=self.host.processes.command_line(found.run.init))
        if held is not None:
            await held(guest)
        await self._show_late(guest, spec)
        if spec.root.read_only or spec.confinement.writable is not None:
            await self.host.mounts.make_root_read_only(guest.world, but=spec.confinement.writable or ())
        if restore is not None:
            await restore.spend()
        await op.effect(f"start program of {id}", lambda: self._go_on(id, restore))
        return guest

    async def _show_late(self, guest: OciGuest, spec: RunSpec) -> None:
        """What cannot be mounted stays hidden: in a read-only directory, for example, there may be no place for it."""
        for path in spec.late_files:
            graft = Graft(
                self.layout(spec.id).file(path), read_only=spec.root.read_only, set_ids=False, executable=False
            )
            try:
                async with self.host.guest_mounts.prepare(graft) as tree:
                    await guest.mount(tree, await self._followed(guest, path))
            except (HostFailure, InvalidInput) as error:
                log.warning("%s of %s is hidden by a mount: %s", path, spec.id, error)

    async def _followed(self, guest: OciGuest, path: str) -> str:
        """The host's /etc has links that lead nowhere inside: what they name is created."""
        with suppress(IsolaError):
            async with self.host.files.root(process=guest.world) as root:
                for _ in range(_LINKS):
                    target = await root.target(path)
                    path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)).replace("//", "/")
        return path

    async def _first(
        self, op: Operation, spec: RunSpec, namespace: Path, joined: Mapping[str, Path], restore: Restore | None
    ) -> Found:
        """The first process. If lxcfs dies meanwhile, it is created once more, with what is left of lxcfs."""
        began = self.host.clock.now()
        try:
            return await self._attempt(op, spec, namespace, joined, restore)
        except HostFailure as error:
            if restore is not None or not await lost(self.host, spec.lxcfs, since=began):
                raise
            log.warning("lxcfs has died while %s was starting, which is started again: %s", spec.id, error)
        await self.remove(spec.id)
        again = replace(spec, lxcfs=await answering(self.host, spec.lxcfs))
        return await self._attempt(op, again, namespace, joined, restore)

    async def _attempt(
        self, op: Operation, spec: RunSpec, namespace: Path, joined: Mapping[str, Path], restore: Restore | None
    ) -> Found:
        needed = given(spec, self.host.cgroups.unified)
        caller = await self.maker(spec.id, needed, restore.path if restore is not None else None)
        process = await op.effect(
            f"prepare run of {spec.id}",
            lambda: self._prepare(spec, namespace, joined, caller.place.seen),
            look=lambda: self.has_traces(spec.id),
            undo=lambda: self.remove(spec.id),
        )
        return await op.effect(f"create first process of {spec.id}", lambda: self._create(spec, process, caller))

    async def _go_on(self, id: str, restore: Restore | None) -> None:
        try:
            await self.let_go(id)
        except HostFailure:
            if restore is not None:
                await restore.take_back()
            raise

    async def find(self, id: str) -> Guest | None:
        """The instance, if its recorded first process and monitor are alive."""
        return await self._find(id)

    async def ending(self, id: str) -> Ending | None:
        """As its monitor has written it, and its group has counted it."""
        status = await record.exit_status(self.host, self.layout(id), self.name)
        if status is None:
            return None
        with suppress(NotFound):
            at = await self.host.files.modified(self.layout(id).exit_status)
            return Ending(status, at, self.host.cgroups.oom_kills(self.group(id)) > 0)
        return None

    # --- how ----------------------------------------------------------------------------------------------------

    def _require_limits(self, spec: RunSpec) -> None:
        """Raises Unsupported for resource limits that cannot be set on this host."""
        system = self.host.system
        if not spec.ulimits or "CAP_SYS_RESOURCE" in system.capabilities():
            return
        if not self.limits_itself:
            raise Unsupported(
                f"{self.name} cannot set limits.kernel.* on this host",
                evidence="the daemon lacks CAP_SYS_RESOURCE",
                remedy="unset them, or use crun, which can lower limits without it",
            )
        for name, (_, hard) in spec.ulimits.items():
            most = system.resource_limit(name)
            if most >= 0 and not 0 <= hard <= most:
                raise Unsupported(
                    f"The limit of {name} cannot be raised above {most} on this host",
                    evidence="the daemon lacks CAP_SYS_RESOURCE",
                    field=f"config.limits.kernel.{name}",
                    remedy="choose a lower limit, or raise that of the daemon",
                )

    @asynccontextmanager
    async def _user_namespace(self, spec: RunSpec) -> AsyncIterator[Path]:
        """The one that owns its network namespace: otherwise root inside could not configure its links.

        In the network of the host it is that of the guest whose namespaces it shares, otherwise its own.
        """
        async with AsyncExitStack() as stack:
            if isinstance(spec.network, NetworkNamespace):
                yield await stack.enter_async_context(self.host.namespaces.user_of_network(spec.network.path))
            elif other := next(iter(spec.shares.values()), ""):
                guest = await self._sharing(other)
                yield stack.enter_context(self.host.namespaces.of_process(guest.processes.init, "user"))
            else:
                assert spec.idmap is not None
                yield await stack.enter_async_context(self.host.namespaces.user(spec.idmap))

    @asynccontextmanager
    async def _joined(self, spec: RunSpec) -> AsyncIterator[Mapping[str, Path]]:
        """Files of existing namespaces to join. Raises WrongState if a namespace or a guest does not exist."""
        with ExitStack() as stack:
            joined = {}
            if isinstance(spec.network, NetworkNamespace):
                joined["network"] = stack.enter_context(self.host.namespaces.network_file(spec.network.path))
            for kind, other in spec.shares.items():
                guest = await self._sharing(other)
                joined[kind.value] = stack.enter_context(guest.namespace(kind))
            yield joined

    async def _sharing(self, id: str) -> OciGuest:
        """Raises WrongState."""
        if (guest := await self._find(id)) is None:
            raise WrongState("The instance whose namespaces are shared does not run")
        return guest

    async def _prepare(
        self, spec: RunSpec, namespace: Path, joined: Mapping[str, Path], seen: Callable[[Path], Path]
    ) -> object:
        """Write all files that the engine needs; returns the process entry."""
        files, layout, group = self.host.files, self.layout(spec.id), self.group(spec.id)
        assert spec.idmap is not None
        user = await resolve(files, spec.root.path, spec.idmap, spec.user, spec.groups)
        surroundings = Surroundings(
            architecture=self.host.system.kernel().architecture,
            release=_release(self.host.system.kernel().release),
            bounding=self.host.system.capabilities(),
            cgroup=group,
            groups=self.host.cgroups.unified,
            user_namespace=namespace,
            joined=joined,
            seen=seen,
            lxcfs_files=await self._lxcfs_files(spec.lxcfs),
            limit_devices=self.limits_devices(),
            reports_refusals=self.reports_refusals,
            file=layout.file,
        )
        config = self.adapted(spec, bundle(spec, user, surroundings))
        engine, planned = self.name.encode(), plan.encode(spec)
        texts = {layout.file(path): text.encode() for path, text in spec.files.items()}
        writing = files.write_all(
            {layout.engine: engine, layout.plan: planned, layout.config: json.dumps(config).encode()} | texts,
            directories={layout.run: 0o711}
            | ({layout.files: 0o711} if texts else {})
            | dict.fromkeys((layout.exits, layout.state, layout.commands, layout.logs), 0o700),
            owners=dict.fromkeys(texts, spec.idmap.base),
        )
        made = self.host.cgroups.create(group, owner=spec.idmap.base, monitor=group + MONITOR_SUFFIX)
        await all_done(self.begin_log(spec, writing), made)
        return config["process"]

    def adapted(self, spec: RunSpec, config: dict[str, object]) -> dict[str, object]:
        """The configuration as this engine understands it. Pure."""
        return config

    async def guest_of(self, found: Found, before: tuple[str, ...] = ()) -> OciGuest:
        """Of a run in progress; ``before``: the command line of its first process until it executes its program."""
        return OciGuest(self, found, before=before)

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported for a part of the spec that its guests cannot have."""
        _require_supported(spec)
        require_obeyed(self.capabilities, spec)

    async def _lxcfs_files(self, mount: Path | None) -> tuple[str, ...]:
        """The files of this lxcfs: versions differ, and a missing file would make the start fail."""
        if mount is None:
            return ()
        if mount in self._lxcfs:
            return self._lxcfs[mount]
        try:
            there = {
                f"{parent.as_posix()}/{name}"
                for parent in LXCFS_DIRECTORIES
                for name in await self.host.files.names(mount / parent)
            }
        except IsolaError as error:  # it has ended since it was asked whether it answers
            log.warning("lxcfs has ended: an instance starts without it: %s", error)
            return ()
        found = tuple(name for name in LXCFS_FILES if name in there)
        if found:
            self._lxcfs[mount] = found
        return found

    async def _create(self, spec: RunSpec, process: object, caller: Caller) -> Found:
        layout, group = self.layout(spec.id), self.group(spec.id)
        argv, place = (
            monitor.arguments(
                layout, caller.argv, terminal=spec.terminal, stdin=spec.stdin, stdin_once=spec.stdin_once, log=spec.log
            ),
            caller.place,
        )
        groups = self.host.cgroups.directories_of_monitor(group + MONITOR_SUFFIX)
        if self.host.cgroups.layout == "unified":
            argv = monitor.entering(groups, argv)
        else:
            place = replace(place, groups=groups)
        try:
            run = await monitor.create(self.host, layout, argv, place)
            self._check_identity(run)
        except HostFailure:
            self._lxcfs.clear()
            raise
        # Limits are set only now, so that they apply to the program and not to the engine.
        steps = [self.host.cgroups.limit(group, spec.limits), *self.furnished(spec, run, process)]
        steps.append(record.write(self.host, layout, self.name, run, process))
        await all_done(*steps)
        self.known.add(spec.id)
        return Found(run, dict(process) if isinstance(process, dict) else {}, spec)

    def furnished(self, spec: RunSpec, run: Run, process: object) -> list[Awaitable[object]]:
        """What is left to be done for a first process before it executes its program."""
        if not spec.terminal:
            self._give_streams(spec, run, process)
        steps: list[Awaitable[object]] = []
        if not self.limits_devices():
            steps.append(self._allow_devices(self.group(spec.id), spec))
        if spec.system:
            # Service managers propagate mounts to the services that they confine. Nothing propagates to the host,
            # because in another user namespace its mounts are slaves. Engines differ in how they handle
            # "rootfsPropagation".
            steps.append(self.host.mounts.share(run.init))
        if other := spec.shares.get(Shareable.IPC):
            steps.append(self._share_memory(other, run))
        return steps

    async def _share_memory(self, other: str, run: Run) -> None:
        """POSIX shared memory is in a file system, which the namespace does not contain."""
        if (lender := await self._find(other)) is not None:
            await self.host.guest_mounts.lend(lender.processes.init, run.init, "/dev/shm")

    async def _allow_devices(self, group: str, spec: RunSpec) -> None:
        await self.host.cgroups.allow_devices(group, device_rules(spec.devices, spec.confinement.device_rules))

    def _give_streams(self, spec: RunSpec, run: Run, process: object) -> None:
        """The pipes are the monitor's, and an engine inside a user namespace cannot give them away."""
        assert spec.idmap is not None
        user = process["user"] if isinstance(process, dict) else {}
        uid, gid = (spec.idmap.outside(int(user.get(key, 0))) for key in ("uid", "gid"))
        self.host.processes.give_streams(run.init, uid, gid)

    async def let_go(self, id: str) -> None:
        """Let the first process execute its program. Raises HostFailure."""
        argv = [await self.program(), "--root", str(self.layout(id).state), "start", id]
        try:
            await self.host.processes.run(argv, env={"PATH": PATH})
        except CommandFailed as error:
            raise HostFailure(
                "The program could not be started", evidence=error.evidence, remedy=error.remedy
            ) from error

    async def _find(self, id: str) -> OciGuest | None:
        found = await record.find(self.host, self.layout(id), self.name)
        if found is None:
            return None
        guest = await self.guest_of(found)
        if id not in self.known:
            self.known.add(id)
            await self._end_commands(guest)
        return guest

    async def _end_commands(self, guest: OciGuest) -> None:
        """Kill the commands of an earlier daemon that was killed; a daemon that stops cleanly kills its own."""
        directory = self.layout(guest.id).commands
        for name in await self.host.files.names(directory):
            if name.startswith("."):
                continue  # the engine is about to rename it
            with suppress(NotFound, ValueError):
                await guest.end_command(name)
            await self.host.files.remove_tree(directory / name)

    def _check_identity(self, run: Run) -> None:
        """Check that the processes with the reported PIDs are in the instance's control groups."""
        group = self.group(run.id)
        for process, place in ((run.init, group), (run.monitor, group + MONITOR_SUFFIX)):
            if not self.host.cgroups.holds(place, process.pid):
                raise HostFailure("The first process ended before it was started")


def _release(text: str) -> tuple[int, int]:
    """``6.1.0-13-amd64`` as 6 and 1."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _require_supported(spec: RunSpec) -> None:
    """Raises Unsupported."""
    if spec.root.kind is not RootKind.DIRECTORY:
        raise Unsupported(f"A container's root is a directory, not a {spec.root.kind.value} device")
    if spec.idmap is None:
        raise Unsupported("A container needs user ids of its own")
    if spec.network is not None and not isinstance(spec.network, NetworkNamespace | HostNetwork):
        raise Unsupported("A container's NICs end in a network namespace, not in taps")
