"""Virtual machines: firmware, disks of their own, a screen; the agent is optional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from isola.errors import Unsupported
from isola.host.hypervisor_job import Job, Server
from isola.host.threads import in_thread
from isola.model.limits import Limits
from isola.runtimes.qemu import firmware, machine, seed, vm_machine
from isola.runtimes.qemu.blocks import drives_of
from isola.runtimes.qemu.boot_order import boot_order
from isola.runtimes.qemu.file_server import file_server
from isola.runtimes.qemu.file_server import firmware as data_of
from isola.runtimes.qemu.limits import ALLOWANCE_WITH_SCREEN, cpus_of, memory_of, most_cpus, most_memory, of_group
from isola.runtimes.qemu.microvm import nics_of, require_apart, served
from isola.runtimes.qemu.runtime import Common, QemuRuntime
from isola.runtimes.qemu.session import Session
from isola.runtimes.qemu.shares import Shares
from isola.runtimes.qemu.vm_guest import DiskGuest
from isola.runtimes.qemu.vm_machine import Machine
from isola.runtimes.spec import Firmware, RootKind, RunSpec

_SHARE = "share"
"""Directory of a run below which directories of the host are seen inside."""


class VmRuntime(QemuRuntime):
    """It is started when its firmware is."""

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported."""
        if spec.root.kind is not RootKind.DISKS or not spec.disks:
            raise Unsupported("The root of a virtual machine is a disk, not a directory")
        require_apart(spec)
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
        layout = self._layout(spec.id)
        program = await self.host.files.read(common.kit.agent)
        await self.host.files.write(layout.seed, await in_thread(seed.disk, spec.seed, program), durable=False)
        servers: list[Server] = [file_server(common.engines, share)]
        if wanted.tpm:
            servers.append(await firmware.tpm(self.host, spec.root.path, spec.idmap.outside(common.user)))
        host_cpus, host_memory = len(self.host.system.cpus()), self.host.system.memory()["MemTotal"]
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
        modules = common.engines.modules
        return Job(
            ids=common.ids,
            user=common.user,
            groups=common.groups,
            servers=tuple(servers),
            program=(*common.engines.qemu, *data_of(common.engines), *vm_machine.arguments(described)),
            listen=(machine.CONTROL, machine.AGENT),
            taps={nic.descriptor: nic.link for nic in nics},
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

    async def boot(self, session: Session) -> None:
        """Its processors wait, while directories of the host are added to those that are served."""
        assert session.shares is not None
        for number, target in await served(self.host, session):
            await session.shares.add(number, target, None)

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


def _beyond(trees: tuple[Path, ...], kind: firmware.Firmware | None) -> tuple[str, ...]:
    """The firmware, if it is not shown already."""
    return () if kind is None or any(kind.code.is_relative_to(tree) for tree in trees) else (str(kind.code),)
