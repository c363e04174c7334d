"""Runs each guest in a QEMU of its own, under a monitor that keeps its log when the daemon ends."""

from __future__ import annotations

import sys
from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from isola.errors import HostFailure, IsolaError, NotFound, Unsupported
from isola.host import Host
from isola.host.cancellation import all_done
from isola.host.hypervisor_job import Job
from isola.host.process import HERE, ProcessRef
from isola.model.identity import HostNames
from isola.model.last_run import Ending
from isola.model.limits import Limits
from isola.operations import Operation
from isola.runtimes import plan
from isola.runtimes.capabilities import Capability
from isola.runtimes.demands import require_obeyed
from isola.runtimes.driver import Held, Restore
from isola.runtimes.guest import Guest
from isola.runtimes.oci import monitor
from isola.runtimes.oci.layout import MONITOR_SUFFIX
from isola.runtimes.oci.monitored import MonitoredRuntime
from isola.runtimes.qemu import engines, kit, probing, record, saving
from isola.runtimes.qemu.engines import Engines, Versions
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.kit import Kit
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.limits import USUAL, Sizes, memory_of, of_group
from isola.runtimes.qemu.record import Run
from isola.runtimes.qemu.session import Session
from isola.runtimes.qemu.shares import Shares
from isola.runtimes.spec import RunSpec

_HYPERVISORS_USER = 65534
_MODULE = "isola.host.hypervisor"


@dataclass(frozen=True, slots=True)
class Common:
    """Parts of a job that do not depend on the machine."""

    ids: tuple[int, int]
    user: int
    groups: tuple[str, ...]
    kit: Kit
    engines: Engines
    accelerator: str
    """``kvm`` or ``tcg``."""


class QemuRuntime(MonitoredRuntime):
    """What does not depend on the machine; the subclass of a machine says what is started, and when it has booted."""

    sizes: ClassVar[Sizes] = USUAL
    """Of the memory of its guests."""
    _sessions: ClassVar[dict[Run, Session]] = {}
    """Of this process: QEMU talks to one client at a time."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._asked: dict[Engines, Versions] = {}

    async def run(
        self, op: Operation, spec: RunSpec, held: Held | None = None, *, restore: Restore | None = None
    ) -> Guest:
        """Boot it as far as the point at which devices can be attached, and then start its program."""
        id = spec.id
        if restore is not None:
            self.capabilities.require(Capability.CHECKPOINT)
        require_obeyed(self.capabilities, spec)
        self.require_supported(spec)
        memory_of(spec.limits, self.sizes)
        wanted = spec
        if restore is not None:
            spec = await self.fit(spec, restore)
        await op.effect(
            f"prepare run of {id}",
            lambda: self.prepare(spec),
            look=lambda: self.has_traces(id),
            undo=lambda: self.remove(id),
        )
        session = await op.effect(f"start virtual machine of {id}", lambda: self._create(spec))
        await op.effect(f"boot {id}", lambda: self.boot(session) if restore is None else self.mount(session))
        guest = self.guest(session)
        if held is not None:
            await held(guest)
        if restore is None:
            await op.effect(f"start program of {id}", lambda: self.start(session))
            return guest
        await op.effect(f"load state of {id}", lambda: self.load(session, restore))
        await restore.spend()
        await op.effect(f"continue {id}", lambda: self.go_on(guest, wanted))
        return guest

    async def find(self, id: str) -> Guest | None:
        """The instance, if its recorded processes are alive, and its machine has not stopped for good."""
        session = await self._session(id)
        return self.guest(session) if session is not None and session.alive else None

    async def ending(self, id: str) -> Ending | None:
        """As it was written when the daemon saw it; a daemon that was away sees it now."""
        layout = self._layout(id)
        if (session := await self._session(id)) is not None and not session.alive:
            await session.ended()
        if (found := await record.ending(self.host, layout)) is not None:
            return found
        if await record.read(self.host, layout, self.name) is None or session is not None:
            return None
        # All of its processes were killed while there was no daemon.
        at = await self.host.files.modified(layout.record)
        return Ending(128 + 9, at, self.host.cgroups.oom_kills(self.group(id)) > 0)

    async def remove(self, id: str) -> None:
        """Its session ends with its processes."""
        found = await record.read(self.host, self._layout(id), self.name)
        session = self._sessions.get(found[0]) if found else None
        if session is not None:
            session.removed = True
            await self._remove_groups(id)
            await session.ended()  # which is recorded in its directory: not while that is removed
        await super().remove(id)
        if session is not None:
            self._sessions.pop(session.run, None)

    @classmethod
    def forget(cls, session: Session) -> None:
        """As the end of the daemon does."""
        cls._sessions.pop(session.run, None)

    # --- of the machine -----------------------------------------------------------------------------------------

    @abstractmethod
    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported, and InvalidInput for limits."""

    @abstractmethod
    async def job(self, spec: RunSpec, common: Common) -> Job:
        """What is started."""

    @abstractmethod
    async def boot(self, session: Session) -> None:
        """Until devices can be attached. Raises HostFailure with the last messages of the guest's kernel."""

    @abstractmethod
    async def start(self, session: Session) -> None:
        """Its program."""

    async def fit(self, spec: RunSpec, restore: Restore) -> RunSpec:
        """The spec with which the machine of this state can be made. Raises WrongState if it does not fit."""
        raise Unsupported("The state of such a machine cannot be restored yet", remedy="start it without its state")

    async def mount(self, session: Session) -> None:
        """What has to be there before a state is loaded."""

    async def load(self, session: Session, restore: Restore) -> None:
        """Fill the machine, to which devices have been attached. Raises HostFailure, WrongState."""
        await saving.load(self.host, session.qmp, restore.path)

    async def go_on(self, guest: VmGuest, wanted: RunSpec) -> None:
        """From a state that was loaded, as far as it can be as it is wanted now."""

    def of_group(self, limits: Limits) -> Limits:
        """Limits of the control group of all its processes."""
        return of_group(limits)

    def shares(self, spec: RunSpec) -> Shares | None:
        """Of machines whose agent is not the first process."""
        return None

    def guest(self, session: Session) -> VmGuest:
        """As the machine's kind has it."""
        return VmGuest(self, session)

    async def prepare(self, spec: RunSpec) -> None:
        """Write all files, and make the groups."""
        layout, group = self._layout(spec.id), self.group(spec.id)
        job = await self.job(spec, await self.common(spec))
        writing = self.host.files.write_all(
            {layout.engine: self.name.encode(), layout.plan: plan.encode(spec), layout.job: job.encode()},
            directories={layout.run: 0o711} | dict.fromkeys((layout.exits, layout.logs), 0o700),
        )
        made = self.host.cgroups.create(group, monitor=group + MONITOR_SUFFIX)
        await all_done(self.begin_log(spec, writing), made)

    # --- how ----------------------------------------------------------------------------------------------------

    def _layout(self, id: str) -> VmLayout:
        return VmLayout.beside(self.layout(id))

    async def _session(self, id: str) -> Session | None:
        """That of a run whose processes are alive, or that has just ended."""
        found = await record.read(self.host, self._layout(id), self.name)
        if found is None:
            return None
        run, spec = found
        if (known := self._sessions.get(run)) is not None:
            return known
        if not self.host.processes.alive(run.qemu):
            return None
        return await self._opened(run, spec)

    async def _opened(self, run: Run, spec: RunSpec) -> Session | None:
        session = Session(self.host, self._layout(run.id), run, spec, self.group(run.id), shares=self.shares(spec))
        try:
            await session.open()
        except IsolaError:
            if self.host.processes.alive(run.qemu):
                raise
            return None
        self._sessions[run] = session
        return session

    async def common(self, spec: RunSpec) -> Common:
        """The same for every machine."""
        assert spec.idmap is not None
        supplied, found = kit.find(), engines.find(self.host)
        return Common(
            ids=(spec.idmap.base, spec.idmap.size),
            user=min(_HYPERVISORS_USER, spec.idmap.size - 1),
            groups=tuple(map(str, self.host.cgroups.directories(self.group(spec.id)))),
            kit=supplied,
            engines=found,
            accelerator=await probing.accelerator(self.host, supplied, found, await self.versions(found)),
        )

    async def versions(self, found: Engines) -> Versions:
        """Asked once."""
        if found not in self._asked:
            self._asked[found] = await engines.versions(self.host, found)
        return self._asked[found]

    async def _create(self, spec: RunSpec) -> Session:
        """Start monitor, file server and QEMU."""
        layout, group = self._layout(spec.id), self.group(spec.id)
        engine = [sys.executable, "-I", "-m", _MODULE, str(layout.job)]
        argv = monitor.arguments(
            layout, engine, terminal=spec.terminal, stdin=spec.stdin, stdin_once=spec.stdin_once, log=spec.log
        )
        groups, place = self.host.cgroups.directories_of_monitor(group + MONITOR_SUFFIX), HERE
        if self.host.cgroups.layout == "unified":
            argv = monitor.entering(groups, argv)
        else:
            place = replace(place, groups=groups)
        made = await monitor.create(self.host, layout, argv, place)
        servers = await self._servers(layout)
        if servers is None or not self.host.cgroups.holds(group, made.init.pid):
            raise HostFailure("The virtual machine ended before it was started", evidence=await self._log_of(layout))
        run = Run(spec.id, made.init, made.monitor, servers)
        await all_done(
            record.write(self.host, layout, self.name, run), self.host.cgroups.limit(group, self.of_group(spec.limits))
        )
        session = await self._opened(run, spec)
        if session is None:
            raise HostFailure("The virtual machine ended before it was started", evidence=await self._log_of(layout))
        return session

    async def _servers(self, layout: VmLayout) -> tuple[tuple[str, ProcessRef], ...] | None:
        """None if one has ended."""
        found = []
        for server in Job.decode(await self.host.files.read(layout.job)).servers:
            pid = int(await self.host.files.read(layout.server_pid(server.name)))
            if (process := self.host.processes.identify(pid)) is None:
                return None
            found.append((server.name, process))
        return tuple(sorted(found))

    async def _log_of(self, layout: VmLayout) -> str:
        try:
            return (await self.host.files.read(layout.engine_log)).decode(errors="replace")
        except NotFound:
            return ""
