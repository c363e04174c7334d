"""MicroVMs: a kernel of the host, a root that is a directory of the host, and an agent as first process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from isola.errors import IsolaError, Unsupported
from isola.host import Host
from isola.host.guest_mounts import Graft
from isola.host.hypervisor_job import Job
from isola.model.identity import HostNames
from isola.model.network import HostTap
from isola.runtimes.agent.agent import Agent, Identity
from isola.runtimes.agent.plan import Console, plan_of
from isola.runtimes.driver import Restore
from isola.runtimes.qemu import machine, probing, saving, slot_disks
from isola.runtimes.qemu.blocks import drives_of
from isola.runtimes.qemu.file_server import file_server, firmware
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.limits import cpus_of, memory_of, most_memory, spare_cpus
from isola.runtimes.qemu.machine import Machine, Nic
from isola.runtimes.qemu.microvm_guest import MicrovmGuest
from isola.runtimes.qemu.runtime import Common, QemuRuntime
from isola.runtimes.qemu.saving import Shape, State
from isola.runtimes.qemu.session import Session, failure
from isola.runtimes.qemu.warm import Warm
from isola.runtimes.spec import RootKind, RunSpec
from isola.runtimes.users import resolve

_BOOTING = 120.0
"""Seconds that a kernel has to start its agent, on a busy host without hardware support."""


class MicrovmRuntime(QemuRuntime):
    """Its agent prepares and executes the program."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._continuing: dict[str, State] = {}
        """States from which instances are being started, by id."""
        self._warm = Warm(host, directory)
        self._booted: dict[str, Path] = {}
        """Booted kernels from which they are being started."""

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported."""
        if spec.root.kind is not RootKind.SHARED:
            raise Unsupported(f"The root of a microVM is a shared directory, not a {spec.root.kind.value} device")
        require_apart(spec)
        for disk in spec.disks:
            slot_disks.require_bus(disk)
        self._continuing.pop(spec.id, None)  # of a start that has failed
        self._booted.pop(spec.id, None)

    async def job(self, spec: RunSpec, common: Common) -> Job:
        """QEMU and the server of the root."""
        described = self._described(spec, common)
        # Those of a kernel that has booted, or of a saved machine, are added when it runs.
        disks = await drives_of(() if spec.warm or spec.id in self._continuing else spec.disks)
        if (state := self._continuing.get(spec.id)) is not None:
            described = saving.continued(described, state)
        elif spec.id in self._booted:
            described = replace(described, incoming=True)
        return Job(
            ids=common.ids,
            user=common.user,
            groups=common.groups,
            servers=(file_server(common.engines, spec.root.path, forgiving=state is not None),),
            program=(
                *common.engines.qemu,
                *firmware(common.engines),
                *machine.arguments(described),
                *slot_disks.cold(disks.drives, len(described.nics)),
            ),
            listen=(machine.CONTROL, machine.AGENT),
            taps={nic.descriptor: nic.link for nic in described.nics},
            shown=(*map(str, common.engines.trees), str(common.kit.kernel), str(common.kit.initramfs)),
            devices=("/dev/kvm",) if common.accelerator == "kvm" else (),
            opened=disks.opened,
        )

    async def boot(self, session: Session) -> None:
        """Until the agent has prepared everything."""
        spec = session.spec
        assert spec.idmap is not None
        await self.mount(session)
        agent = await self._agent(session)
        user = await resolve(self.host.files, spec.root.path, spec.idmap, spec.user, spec.groups)
        await agent.prepare(plan_of(spec, user, _console(spec)))
        await agent.set_up_loopback()
        for nic in spec.nics:
            await (self.guest(session).plug(nic) if spec.warm else agent.configure(nic))
        for disk in spec.disks if spec.warm else ():
            await self.guest(session).add_disk(disk)

    async def _agent(self, session: Session) -> Agent:
        """That of a kernel that boots, or that has booted for another guest."""
        spec, guest = session.spec, self.guest(session)
        booted = self._booted.pop(spec.id, None)
        if booted is not None:
            try:
                await saving.load(self.host, session.qmp, booted)
            except IsolaError:
                await self._warm.drop(booted)
                raise
            await guest.resume()
            return await self._made_new(await session.agent())
        try:
            agent = await session.agent(seconds=_BOOTING)
        except IsolaError as error:
            messages = await self._kernel_log(session)
            raise failure(
                "The kernel of the guest did not start", messages or error.evidence or error.message
            ) from error
        if not spec.warm:
            return agent
        await guest.pause()
        common = await self.common(spec)
        await self._warm.keep(spec.id, guest.save, await self._shape(spec), common.kit, common.engines)
        await guest.resume()
        return await self._made_new(agent)

    async def _made_new(self, agent: Agent) -> Agent:
        """Several guests continue from the same moment: they must not draw the same random numbers."""
        await agent.identify(Identity(entropy=bytes.fromhex(self.host.clock.token(32))))
        return agent

    async def _shape(self, spec: RunSpec) -> Shape:
        return saving.shape_of(self._described(spec, await self.common(spec)), self._processor())

    async def prepare(self, spec: RunSpec) -> None:
        """Write all files, and make the groups."""
        shape, common = await self._shape(spec), await self.common(spec)
        if (state := self._continuing.get(spec.id)) is not None:
            shape = state.shape
        elif spec.warm and (found := await self._warm.find(shape, common.kit, common.engines)) is not None:
            self._booted[spec.id] = found
        await super().prepare(spec)
        await saving.keep_shape(self.host, VmLayout.beside(self.layout(spec.id)), shape)

    async def fit(self, spec: RunSpec, restore: Restore) -> RunSpec:
        """With as much memory as it had."""
        state, common = await saving.read(self.host, restore.path), await self.common(spec)
        spec = replace(spec, warm=False)
        shape = saving.reachable(state, await self._shape(spec))
        saving.require_fit(state, shape, (await self.versions(common.engines)).qemu, spec.nics)
        self._continuing[spec.id] = state
        return replace(spec, limits=replace(spec.limits, memory=state.shape.memory, vcpus=state.shape.cpus))

    async def go_on(self, guest: VmGuest, wanted: RunSpec) -> None:
        """It must not draw the random numbers that another run of this state has drawn."""
        if wanted.root.read_only:
            await self.host.mounts.make_root_read_only(guest.session.run.server)
        state = self._continuing.pop(guest.id)
        await guest.resume()
        await self._made_new(await guest.session.agent())
        for nic in saving.later(state, wanted.nics):
            await guest.plug(nic)
        assert isinstance(guest, MicrovmGuest)
        for disk in wanted.disks:
            await guest.add_disk(disk)
        if wanted.limits != guest.session.spec.limits:
            await guest.limit(wanted.limits)
        await guest.session.look()

    async def remove(self, id: str) -> None:
        """Kill all processes and remove all traces."""
        self._continuing.pop(id, None)
        self._booted.pop(id, None)
        await super().remove(id)

    async def start(self, session: Session) -> None:
        """Devices may have created mount points in a root that is only read from now on."""
        if session.spec.root.read_only:
            await self.host.mounts.make_root_read_only(session.run.server)
        await (await session.agent()).start()
        await session.look()

    async def mount(self, session: Session) -> None:
        """Directories of the host, below the root that the file server sees."""
        await served(self.host, session)

    def guest(self, session: Session) -> MicrovmGuest:
        """With an agent that uses what comes and goes."""
        return MicrovmGuest(self, session)

    def _described(self, spec: RunSpec, common: Common) -> Machine:
        there = len(self.host.system.cpus())
        return Machine(
            id=spec.id,
            kernel=common.kit.kernel,
            initramfs=common.kit.initramfs,
            accelerator=common.accelerator,
            memory=memory_of(spec.limits),
            cpus=cpus_of(spec.limits, there),
            most_memory=most_memory(spec.limits, self.host.system.memory_total),
            most_cpus=spare_cpus(spec.limits, there),
            clock=probing.clock(self.host),
            nics=() if spec.warm else nics_of(spec),
            slots=machine.HOT_PLUG_PORTS + len(spec.nics) + len(spec.disks),
            terminal=spec.terminal,
        )

    def _processor(self) -> str:
        cpus = self.host.system.cpus()
        return str(cpus[0].get("model", "")) if cpus else ""

    async def _kernel_log(self, session: Session) -> str:
        try:
            return (await session.qmp.ring(machine.KERNEL_LOG)).decode(errors="replace")
        except IsolaError:
            return ""


async def served(host: Host, session: Session) -> tuple[tuple[int, str], ...]:
    """Directories of the host that the file server shows below its root from now on: numbers of mounts and paths."""
    spec, found = session.spec, []
    assert spec.idmap is not None
    for mount in spec.mounts:
        if mount.kind != "bind":
            continue
        graft = Graft(
            Path(mount.source), read_only=mount.read_only, recursive=mount.recursive, propagation=mount.propagation
        )
        async with host.guest_mounts.prepare(graft) as tree:
            await host.guest_mounts.put(session.run.server, tree, mount.target, owner=spec.idmap.base)
            found.append((tree.number, mount.target))
    return tuple(found)


def require_apart(spec: RunSpec) -> None:
    """What no guest with a kernel of its own can have. Raises Unsupported."""
    if spec.idmap is None:
        raise Unsupported("A virtual machine needs user ids of its own, for its files on the host")
    if spec.network is not None and not isinstance(spec.network, HostTap):
        raise Unsupported("The NICs of a virtual machine end in taps, not in a network namespace")


def nics_of(spec: RunSpec) -> tuple[Nic, ...]:
    """Those that are there from the start."""
    return tuple(Nic(nic.link, nic.mac, f"nic{number}") for number, nic in enumerate(spec.nics))


def _console(spec: RunSpec) -> Console:
    """Names of ports."""
    if spec.terminal:
        return Console(output="org.isola.console")
    return Console("org.isola.stdin" if spec.stdin else "", "org.isola.stdout", "org.isola.stderr")
