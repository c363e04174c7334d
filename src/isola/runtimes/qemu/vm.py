"""Virtual machines: firmware, disks of their own, a screen; the agent is optional."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from isola.errors import IsolaError, Unsupported
from isola.host import Host
from isola.host.hypervisor_job import Job, Server
from isola.host.threads import in_thread
from isola.model.identity import HostNames
from isola.model.limits import Limits
from isola.runtimes.driver import Restore
from isola.runtimes.qemu import firmware, machine, saving, seed, vm_machine, vm_saving
from isola.runtimes.qemu.blocks import drives_of
from isola.runtimes.qemu.boot_order import boot_order
from isola.runtimes.qemu.file_server import file_server
from isola.runtimes.qemu.file_server import firmware as data_of
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.limits import ALLOWANCE_WITH_SCREEN, cpus_of, memory_of, most_cpus, most_memory, of_group
from isola.runtimes.qemu.microvm import nics_of, require_apart, served
from isola.runtimes.qemu.runtime import Common, QemuRuntime
from isola.runtimes.qemu.saving import Shape
from isola.runtimes.qemu.session import Session
from isola.runtimes.qemu.shares import Shares
from isola.runtimes.qemu.vm_guest import DiskGuest
from isola.runtimes.qemu.vm_machine import Machine
from isola.runtimes.qemu.vm_saving import Continued
from isola.runtimes.spec import Firmware, RootKind, RunSpec

log = logging.getLogger(__name__)
_SHARE = "share"
"""Directory of a run below which directories of the host are seen inside."""


class VmRuntime(QemuRuntime):
    """It is started when its firmware is."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._continuing: dict[str, Continued] = {}
        """States from which instances are being started, by id."""

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported."""
        if spec.root.kind is not RootKind.DISKS or not spec.disks:
            raise Unsupported("The root of a virtual machine is a disk, not a directory")
        require_apart(spec)
        slotted = [disk for disk in spec.disks if disk.bus in vm_machine.SLOTTED]
        if len(slotted) + len(spec.nics) > vm_machine.MOST_SLOTTED:
            raise Unsupported(
                f"A virtual machine has room for {vm_machine.MOST_SLOTTED} NICs and disks with slots of their own",
                remedy="use io.bus=virtio-scsi for some of its disks",
            )
        self._continuing.pop(spec.id, None)  # of a start that has failed
        if spec.firmware is not None and spec.firmware.bios and any(nic.boot for nic in spec.nics):
            raise Unsupported(
                "A BIOS does not boot from NICs here",
                field="config.security.csm",
                remedy="unset boot.priority of the NICs, or security.csm",
            )

    async def job(self, spec: RunSpec, common: Common) -> Job:
        """QEMU, the server of directories of the host, and the TPM if there is one."""
        assert spec.idmap is not None
        wanted = spec.firmware or Firmware()
        order = boot_order(spec.disks, spec.nics)
        nics = tuple(replace(nic, order=order.get(nic.link, 0)) for nic in nics_of(spec))
        disks = await drives_of(spec.disks, order)
        share = self._layout(spec.id).run / _SHARE
        await self.host.files.make_directory(share, mode=0o755, owner=spec.idmap.base)
        kind, flash = await self._firmware(spec, wanted, common)
        layout, found = self._layout(spec.id), self._continuing.get(spec.id)
        await self._write_seed(spec, common, found)
        # Directories that were unmounted may be in the caches of a guest that continues.
        forgiving = (await self.versions(common.engines)).saves_memory
        servers: list[Server] = [file_server(common.engines, share, forgiving=forgiving)]
        if wanted.tpm:
            servers.append(await firmware.tpm(self.host, spec.root.path, spec.idmap.outside(common.user)))
        host_cpus, host_memory = len(self.host.system.cpus()), self.host.system.memory_total
        described = Machine(
            id=spec.id,
            accelerator=common.accelerator,
            memory=memory_of(spec.limits),
            most_memory=most_memory(spec.limits, host_memory),
            cpus=cpus_of(spec.limits, host_cpus),
            most_cpus=most_cpus(spec.limits, host_cpus),
            code=kind.code if kind else None,
            secure=kind is firmware.SECURE,
            drives=disks.drives,
            nics=nics,
            tpm=wanted.tpm,
            spice=common.engines.spice,
            terminal=spec.terminal,
        )
        if found is not None:
            described = vm_saving.continued(described, found)
        modules = common.engines.modules
        return Job(
            ids=common.ids,
            user=common.user,
            groups=common.groups,
            servers=tuple(servers),
            program=(*common.engines.qemu, *data_of(common.engines), *vm_machine.arguments(described)),
            listen=(machine.CONTROL, machine.AGENT),
            taps={nic.descriptor: nic.link for nic in described.nics},
            shown=(*map(str, common.engines.trees), *_beyond(common.engines.trees, kind)),
            devices=("/dev/kvm",) if common.accelerator == "kvm" else (),
            opened={**disks.opened, **flash, vm_machine.SEED: (str(layout.seed), False)},
            environment={"QEMU_MODULE_DIR": str(modules)} if modules else {},
        )

    async def _firmware(
        self, spec: RunSpec, wanted: Firmware, common: Common
    ) -> tuple[firmware.Firmware | None, Mapping[str, tuple[str, bool]]]:
        """With its variables; None: the BIOS, which has none. Raises DriverUnavailable."""
        if wanted.bios:
            await firmware.require_bios(self.host, common.engines)
            return None, {}
        assert spec.idmap is not None
        kind = firmware.SECURE if wanted.secure_boot else firmware.PLAIN
        variables = await firmware.variables(self.host, spec.root.path, kind, spec.idmap.base)
        return kind, {vm_machine.VARIABLES: (str(variables), True)}

    async def prepare(self, spec: RunSpec) -> None:
        """Write all files, and make the groups."""
        found = self._continuing.get(spec.id)
        shape = found.state.shape if found is not None else self._shape(spec, await self.common(spec))
        await super().prepare(spec)
        await saving.keep_shape(self.host, self._layout(spec.id), shape)

    async def boot(self, session: Session) -> None:
        """Its processors wait, while directories of the host are added to those that are served."""
        await self._serve(session)

    async def fit(self, spec: RunSpec, restore: Restore) -> RunSpec:
        """With the disks that it had, and the memory that it was started with."""
        state, more = await vm_saving.read(self.host, restore.path)
        common = await self.common(spec)
        qemu = (await self.versions(common.engines)).qemu
        vm_saving.require_fit(state, more, self._shape(spec, common), spec, qemu)
        await vm_saving.require_unchanged(self.host, more, spec)
        self._continuing[spec.id] = Continued(state, more, restore.path, spec)
        return vm_saving.spec_of(spec, state, more)

    async def mount(self, session: Session) -> None:
        """There has to be room for memory that it had got, and the directories that it had."""
        assert session.shares is not None
        found = self._continuing[session.run.id]
        had = found.state.shape.memory + found.more.added
        limits = replace(session.spec.limits, memory=max(had, memory_of(found.wanted.limits)))
        await self.host.cgroups.limit(self.group(session.run.id), self.of_group(limits))
        await session.shares.begin(found.more.shares)
        await self._serve(session)

    async def load(self, session: Session, restore: Restore) -> None:
        """A directory that the guest has mounted cannot be missing."""
        assert session.shares is not None
        saving.require_unchanged([f"it had a directory of the host at {path}" for path in session.shares.missing()])
        await super().load(session, restore)

    async def go_on(self, guest: VmGuest, wanted: RunSpec) -> None:
        """What is new is plugged. From here on nothing that fails ends it: its state is used up."""
        found = self._continuing.pop(guest.id)
        await guest.resume()
        assert isinstance(guest, DiskGuest)
        agent = await guest.woken(self.host.clock.token(32)) if found.more.agent else None
        names = {disk.name for disk in found.more.disks}
        for disk in wanted.disks:
            if disk.name not in names:
                await guest.add_disk(disk)
        for nic in saving.later(found.state, wanted.nics):
            await guest.plug(nic)
        try:
            await guest.limit(wanted.limits)
        except IsolaError as error:
            log.warning("Instance %s has the memory and CPUs that were saved: %s", guest.id, error)
        if agent is not None:
            await guest.session.look()

    async def remove(self, id: str) -> None:
        """Kill all processes and remove all traces."""
        self._continuing.pop(id, None)
        await super().remove(id)

    async def start(self, session: Session) -> None:
        """Its firmware."""
        await session.qmp.execute("cont")
        session.hold(paused=False)

    def of_group(self, limits: Limits) -> Limits:
        """With the screen."""
        return of_group(limits, ALLOWANCE_WITH_SCREEN)

    def shares(self, spec: RunSpec) -> Shares:
        """Mounted by the agent when there is one."""
        return Shares(self.host, self._layout(spec.id), spec)

    def guest(self, session: Session) -> DiskGuest:
        """With disks and a screen."""
        return DiskGuest(self, session)

    async def _serve(self, session: Session) -> None:
        assert session.shares is not None
        for number, target in await served(self.host, session):
            await session.shares.add(number, target, None)

    async def _write_seed(self, spec: RunSpec, common: Common, found: Continued | None) -> None:
        """That of a state is the one of which its guest has read parts."""
        files, place = self.host.files, self._layout(spec.id).seed
        if found is not None:
            await files.remove_tree(place)
            return await files.duplicate(found.images / vm_saving.SEED, place)
        program = await files.read(common.kit.agent)
        return await files.write(place, await in_thread(seed.disk, spec.seed, program), durable=False)

    def _shape(self, spec: RunSpec, common: Common) -> Shape:
        """That of a machine that is started now."""
        cpus = self.host.system.cpus()
        emulated = common.accelerator == "tcg"
        return Shape(
            accelerator=common.accelerator,
            processor="" if emulated or not cpus else str(cpus[0].get("model", "")),
            memory=memory_of(spec.limits),
            cpus=cpus_of(spec.limits, len(cpus)),
            slots=vm_machine.slots_of(len(spec.nics), [disk.bus for disk in spec.disks]),
            terminal=spec.terminal,
            announced=True,
        )


def _beyond(trees: tuple[Path, ...], kind: firmware.Firmware | None) -> tuple[str, ...]:
    """The firmware, if it is not shown already."""
    return () if kind is None or any(kind.code.is_relative_to(tree) for tree in trees) else (str(kind.code),)
