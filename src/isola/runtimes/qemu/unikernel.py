"""Unikernels: a kernel of the image is the whole guest. There is no agent, and its root is not shared with it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from isola.errors import InvalidInput, NotFound, Unsupported
from isola.host.hypervisor_job import Job
from isola.host.roots import Access, Root
from isola.model.kernel_file import LARGEST, Format, examine
from isola.model.limits import Limits
from isola.runtimes.qemu import direct, machine
from isola.runtimes.qemu.direct import Direct
from isola.runtimes.qemu.file_server import firmware
from isola.runtimes.qemu.limits import Sizes, cpus_of, memory_of, of_group
from isola.runtimes.qemu.microvm import nics_of, require_apart
from isola.runtimes.qemu.runtime import Common, QemuRuntime
from isola.runtimes.qemu.session import Session
from isola.runtimes.qemu.unikernel_guest import UnikernelGuest
from isola.runtimes.spec import RunSpec

_MIB = 1 << 20
SIZES = Sizes(default=128 * _MIB, least=8 * _MIB)
_ALLOWANCE = 128 * _MIB
"""There is no file server."""
_KERNEL, _INITRD = "kernel", "initrd"
"""Files of the run: what is started is what was looked at, whatever happens to the root meanwhile."""


class UnikernelRuntime(QemuRuntime):
    """Its kernel is looked at, copied, and started by QEMU without firmware of the user's."""

    sizes = SIZES

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported, InvalidInput."""
        if spec.kernel is None:
            raise Unsupported(
                "The instance has no kernel",
                remedy="create it from an image of a unikernel, or choose another isolation",
            )
        require_apart(spec)
        direct.text_of(spec)

    async def prepare(self, spec: RunSpec) -> None:
        """With its kernel, after it was looked at."""
        await super().prepare(spec)
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
        kernel, nics, run = spec.kernel, nics_of(spec), self.layout(spec.id).run
        assert kernel is not None
        files = (run / _KERNEL, *([run / _INITRD] if kernel.initrd else []))
        described = Direct(
            id=spec.id,
            kernel=files[0],
            initrd=files[1] if kernel.initrd else None,
            machine=kernel.machine,
            arguments=direct.text_of(spec),
            accelerator=common.accelerator,
            memory=memory_of(spec.limits, self.sizes),
            cpus=cpus_of(spec.limits, len(self.host.system.cpus())),
            nics=nics,
            terminal=spec.terminal,
        )
        return Job(
            ids=common.ids,
            user=common.user,
            groups=common.groups,
            servers=(),
            program=(*common.engines.qemu, *firmware(common.engines), *direct.arguments(described)),
            listen=(machine.CONTROL,),
            taps={nic.descriptor: nic.link for nic in nics},
            shown=(*map(str, common.engines.trees), *map(str, files)),
            devices=("/dev/kvm",) if common.accelerator == "kvm" else (),
        )

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
