"""Runs each guest in a QEMU of its own, under a monitor that keeps its log when the daemon ends."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from isola.errors import HostFailure, IsolaError, NotFound
from isola.host import Host
from isola.host.cancellation import all_done
from isola.host.guest_mounts import Graft
from isola.host.process import HERE
from isola.model.identity import HostNames
from isola.model.last_run import Ending
from isola.operations import Operation
from isola.runtimes import plan
from isola.runtimes.agent.plan import plan_of
from isola.runtimes.capabilities import Capability
from isola.runtimes.driver import Held
from isola.runtimes.guest import Guest
from isola.runtimes.oci import monitor
from isola.runtimes.oci.layout import MONITOR_SUFFIX
from isola.runtimes.oci.monitored import MonitoredRuntime
from isola.runtimes.qemu import engines, kit, machine, probing, record
from isola.runtimes.qemu.engines import Engines, Versions
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.job import console, described, job_of, require_supported
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.limits import memory_of, of_group
from isola.runtimes.qemu.record import Run
from isola.runtimes.qemu.session import Session, failure
from isola.runtimes.spec import RunSpec
from isola.runtimes.users import resolve

_BOOTING = 120.0
"""Seconds that a kernel has to start its agent, on a busy host without hardware support."""
_MODULE = "isola.host.hypervisor"


class QemuRuntime(MonitoredRuntime):
    """The driver says which machine it is."""

    _sessions: ClassVar[dict[Run, Session]] = {}
    """Of this process: QEMU talks to one client at a time."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._asked: dict[Engines, Versions] = {}

    async def run(
        self, op: Operation, spec: RunSpec, held: Held | None = None, *, restore: Path | None = None
    ) -> Guest:
        """Boot it as far as its agent, which then prepares and executes the program."""
        id = spec.id
        if restore is not None:
            self.capabilities.require(Capability.CHECKPOINT)
        require_supported(spec)
        memory_of(spec.limits)
        await op.effect(
            f"prepare run of {id}",
            lambda: self._prepare(spec),
            look=lambda: self.has_traces(id),
            undo=lambda: self.remove(id),
        )
        session = await op.effect(f"start virtual machine of {id}", lambda: self._create(spec))
        await op.effect(f"boot {id}", lambda: self._boot(session))
        guest = VmGuest(self, session)
        if held is not None:
            await held(guest)
        if spec.root.read_only:
            await self.host.mounts.make_root_read_only(session.run.server)
        await op.effect(f"start program of {id}", lambda: self._start(session))
        return guest

    async def find(self, id: str) -> Guest | None:
        """The instance, if its recorded processes are alive, and its machine has not stopped for good."""
        session = await self._session(id)
        return VmGuest(self, session) if session is not None and session.alive else None

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
        await super().remove(id)
        if session is not None:
            await session.ended()
            self._sessions.pop(session.run, None)

    @classmethod
    def forget(cls, session: Session) -> None:
        """As the end of the daemon does."""
        cls._sessions.pop(session.run, None)

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
        session = Session(self.host, self._layout(run.id), run, spec, self.group(run.id))
        try:
            await session.open()
        except IsolaError:
            if self.host.processes.alive(run.qemu):
                raise
            return None
        self._sessions[run] = session
        return session

    async def _prepare(self, spec: RunSpec) -> None:
        """Write all files, and make the groups."""
        layout, group = self._layout(spec.id), self.group(spec.id)
        assert spec.idmap is not None
        supplied, found = kit.find(), engines.find(self.host)
        accelerator = await probing.accelerator(self.host, supplied, found, await self._versions(found))
        groups = self.host.cgroups.directories(self.group(spec.id))
        job = job_of(described(self.host, spec, supplied, accelerator), spec, found, groups)
        writing = self.host.files.write_all(
            {layout.engine: self.name.encode(), layout.plan: plan.encode(spec), layout.job: job.encode()},
            directories={layout.run: 0o711} | dict.fromkeys((layout.exits, layout.logs), 0o700),
        )
        made = self.host.cgroups.create(group, monitor=group + MONITOR_SUFFIX)
        await all_done(self.begin_log(spec, writing), made)

    async def _versions(self, found: Engines) -> Versions:
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
        server = self.host.processes.identify(int(await self.host.files.read(layout.server_pid)))
        if server is None or not self.host.cgroups.holds(group, made.init.pid):
            raise HostFailure("The virtual machine ended before it was started", evidence=await self._said(layout))
        run = Run(spec.id, made.init, server, made.monitor)
        await all_done(
            record.write(self.host, layout, self.name, run), self.host.cgroups.limit(group, of_group(spec.limits))
        )
        session = await self._opened(run, spec)
        if session is None:
            raise HostFailure("The virtual machine ended before it was started", evidence=await self._said(layout))
        return session

    async def _boot(self, session: Session) -> None:
        """Until the agent has prepared everything. Raises HostFailure with the end of the kernel's log."""
        spec = session.spec
        assert spec.idmap is not None
        await self._mount(session)
        try:
            agent = await session.agent(seconds=_BOOTING)
        except IsolaError as error:
            said = await self._kernel_said(session)
            raise failure("The kernel of the guest did not start", said or error.evidence or error.message) from error
        user = await resolve(self.host.files, spec.root.path, spec.idmap, spec.user, spec.groups)
        await agent.prepare(plan_of(spec, user, console(spec)))
        await agent.set_up_loopback()
        for nic in spec.nics:
            await agent.configure(nic)

    async def _mount(self, session: Session) -> None:
        """Directories of the host, below the root that the file server sees."""
        spec = session.spec
        assert spec.idmap is not None
        for mount in spec.mounts:
            if mount.kind != "bind":
                continue
            graft = Graft(
                Path(mount.source), read_only=mount.read_only, recursive=mount.recursive, propagation=mount.propagation
            )
            async with self.host.guest_mounts.prepare(graft) as tree:
                await self.host.guest_mounts.put(session.run.server, tree, mount.target, owner=spec.idmap.base)

    async def _start(self, session: Session) -> None:
        await (await session.agent()).start()
        await session.look()

    async def _kernel_said(self, session: Session) -> str:
        try:
            return (await session.qmp.ring(machine.KERNEL_LOG)).decode(errors="replace")
        except IsolaError:
            return ""

    async def _said(self, layout: VmLayout) -> str:
        try:
            return (await self.host.files.read(layout.engine_log)).decode(errors="replace")
        except NotFound:
            return ""
