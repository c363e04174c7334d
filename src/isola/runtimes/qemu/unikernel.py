"""Unikernels: a kernel of the image is the whole guest. There is no agent, and its root is not shared with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from isola.errors import InvalidInput, NotFound, Unsupported
from isola.host import Host
from isola.host.hypervisor_job import Job
from isola.host.roots import Access, Root
from isola.model.identity import HostNames
from isola.model.kernel_file import LARGEST, Format, examine
from isola.model.limits import Limits
from isola.runtimes.driver import Restore
from isola.runtimes.qemu import direct, machine, saving
from isola.runtimes.qemu.blocks import Drives, drives_of
from isola.runtimes.qemu.boot_order import boot_order
from isola.runtimes.qemu.direct import Direct
from isola.runtimes.qemu.file_server import firmware
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.limits import Sizes, cpus_of, memory_of, of_group
from isola.runtimes.qemu.microvm import nics_of, require_apart
from isola.runtimes.qemu.runtime import Common, QemuRuntime
from isola.runtimes.qemu.saving import Shape, State
from isola.runtimes.qemu.session import Session
from isola.runtimes.qemu.unikernel_guest import UnikernelGuest
from isola.runtimes.spec import RunSpec

_MIB = 1 << 20
SIZES = Sizes(default=128 * _MIB, least=8 * _MIB)
_ALLOWANCE = 128 * _MIB
"""There is no file server."""
_BUS = "virtio-blk"
_KERNEL, _INITRD = "kernel", "initrd"
"""Files of the run: what is started is what was looked at, whatever happens to the root meanwhile."""


class UnikernelRuntime(QemuRuntime):
    """Its kernel is looked at, copied, and started by QEMU without firmware of the user's."""

    sizes = SIZES

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._continuing: dict[str, State] = {}
        """States from which instances are being started, by id."""

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported, InvalidInput."""
        if spec.kernel is None:
            raise Unsupported(
                "The instance has no kernel",
                remedy="create it from an image of a unikernel, or choose another isolation",
            )
        require_apart(spec)
        direct.text_of(spec)
        for disk in spec.disks:
            if disk.bus not in ("", _BUS):
                raise Unsupported(
                    f"Disks of unikernels are {_BUS}, not {disk.bus}",
                    field=f"devices.{disk.name}.io.bus",
                    remedy="unset io.bus",
                )
        self._continuing.pop(spec.id, None)  # of a start that has failed

    async def prepare(self, spec: RunSpec) -> None:
        """With its kernel, after it was looked at."""
        await super().prepare(spec)
        state, layout = self._continuing.get(spec.id), VmLayout.beside(self.layout(spec.id))
        shape = state.shape if state is not None else await self._shape(spec, await self.common(spec))
        await saving.keep_shape(self.host, layout, shape)
        kernel, run = spec.kernel, self.layout(spec.id).run
        assert kernel is not None
        async with self.host.files.root(spec.root.path, idmap=spec.idmap) as root, self.host.files.root(run) as copies:
            await _copy(root, kernel.path, copies, _KERNEL)
            if kernel.initrd:
                await _copy(root, kernel.initrd, copies, _INITRD)
            opened = await copies.open(f"/{_KERNEL}", Access(read=True))
            found = await examine(opened.read, (await opened.stat()).size)
        if found.format is Format.MULTIBOOT and kernel.machine == "microvm":
            raise Unsupported("The machine microvm starts no multiboot kernels", remedy="use an image for q35 or pc")
        if found.memory > memory_of(spec.limits, self.sizes):
            raise InvalidInput(
                f"The kernel does not fit into memory: it ends at {found.memory // _MIB + 1} MiB",
                field="config.limits.memory",
                remedy="raise limits.memory",
            )

    async def job(self, spec: RunSpec, common: Common) -> Job:
        """QEMU alone."""
        disks = await self._drives(spec)
        described = self._described(spec, common, disks)
        files = (described.kernel, *([described.initrd] if described.initrd else []))
        return Job(
            ids=common.ids,
            user=common.user,
            groups=common.groups,
            servers=(),
            program=(*common.engines.qemu, *firmware(common.engines), *direct.arguments(described)),
            listen=(machine.CONTROL,),
            taps={nic.descriptor: nic.link for nic in described.nics},
            shown=(*map(str, common.engines.trees), *map(str, files)),
            devices=("/dev/kvm",) if common.accelerator == "kvm" else (),
            opened=disks.opened,
        )

    # --- saved states -------------------------------------------------------------------------------------------

    async def fit(self, spec: RunSpec, restore: Restore) -> RunSpec:
        """The same machine, with its NICs in the same order: what it has cannot change while it runs."""
        state, common = await saving.read(self.host, restore.path), await self.common(spec)
        saving.require_fit(
            state,
            await self._shape(spec, common),
            (await self.versions(common.engines)).qemu,
            spec.nics,
            further=_changed(spec, state, memory_of(spec.limits, self.sizes)),
        )
        self._continuing[spec.id] = state
        order = {mac.lower(): number for number, mac in state.nics}
        return replace(spec, nics=tuple(sorted(spec.nics, key=lambda nic: order[nic.mac.lower()])))

    async def go_on(self, guest: VmGuest, wanted: RunSpec) -> None:
        """Nothing in it can be notified that time has passed."""
        self._continuing.pop(guest.id)
        await guest.resume()

    async def remove(self, id: str) -> None:
        """Kill all processes and remove all traces."""
        self._continuing.pop(id, None)
        await super().remove(id)

    # --- life ---------------------------------------------------------------------------------------------------

    def of_group(self, limits: Limits) -> Limits:
        """Of QEMU alone."""
        return of_group(limits, _ALLOWANCE, self.sizes)

    async def boot(self, session: Session) -> None:
        """Nothing: the machine waits, with all its devices."""

    async def start(self, session: Session) -> None:
        """Its first instruction."""
        await session.qmp.execute("cont")
        session.hold(paused=False)

    def guest(self, session: Session) -> UnikernelGuest:
        """Without an agent."""
        return UnikernelGuest(self, session)

    # --- how ----------------------------------------------------------------------------------------------------

    def _described(self, spec: RunSpec, common: Common, disks: Drives) -> Direct:
        kernel, run = spec.kernel, self.layout(spec.id).run
        assert kernel is not None
        return Direct(
            id=spec.id,
            kernel=run / _KERNEL,
            initrd=run / _INITRD if kernel.initrd else None,
            machine=kernel.machine,
            arguments=direct.text_of(spec),
            accelerator=common.accelerator,
            memory=memory_of(spec.limits, self.sizes),
            cpus=cpus_of(spec.limits, len(self.host.system.cpus())),
            nics=nics_of(spec),
            terminal=spec.terminal,
            drives=disks.drives,
            incoming=spec.id in self._continuing,
        )

    async def _drives(self, spec: RunSpec) -> Drives:
        return await drives_of(spec.disks, boot_order(spec.disks))

    async def _shape(self, spec: RunSpec, common: Common) -> Shape:
        found = self._described(spec, common, await self._drives(spec))
        cpus = self.host.system.cpus()
        return Shape(
            accelerator=found.accelerator,
            processor="" if found.accelerator == "tcg" or not cpus else str(cpus[0].get("model", "")),
            memory=found.memory,
            cpus=found.cpus,
            slots=0,
            terminal=found.terminal,
            machine=found.machine,
            disks="\n".join(disk.name for disk in spec.disks),
        )


def _changed(spec: RunSpec, state: State, memory: int) -> list[str]:
    """What a machine that takes less, or more, while it runs would allow."""
    found = []
    if memory < state.shape.memory:
        found.append(f"limits.memory was {state.shape.memory >> 20}MiB")
    if state.shape.disks != (now := "\n".join(disk.name for disk in spec.disks)):
        had = ", ".join(state.shape.disks.splitlines()) or "none"
        found.append(f"the disks were {had}, now {', '.join(now.splitlines()) or 'none'}")
    known = {mac.lower() for _, mac in state.nics}
    return found + [f"the NIC {nic.interface} was not there" for nic in spec.nics if nic.mac.lower() not in known]


async def _copy(root: Root, path: str, to: Root, name: str) -> None:
    """Raises NotFound with the path, InvalidInput."""

    async def bounded() -> AsyncIterator[bytes]:
        size = 0
        async for block in await root.read(path):
            size += len(block)
            if size > LARGEST:
                raise InvalidInput(f"{path} has more than {LARGEST} bytes", field="kernel")
            yield block

    try:
        await to.write(f"/{name}", bounded(), uid=0, gid=0, mode=0o444)
    except NotFound as error:
        raise NotFound(f"The root has no file {path}", remedy="put it back, or create the instance again") from error
