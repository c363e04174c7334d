"""QEMU's microvm machine: application and system images behind a kernel of their own."""

from __future__ import annotations

from typing import ClassVar

from isola.host import Host
from isola.model.probe import Probe
from isola.runtimes.capabilities import NO_FIRMWARE, NO_SCREEN, Capability, Lack, Machine, RuntimeCapabilities
from isola.runtimes.qemu import probing
from isola.runtimes.qemu.limits import DEFAULT_MEMORY
from isola.runtimes.qemu.microvm import MicrovmRuntime
from isola.runtimes.spec import RootKind


class QemuMicrovm(MicrovmRuntime):
    """Without firmware and legacy devices; its root is the same directory as a container's."""

    name = "qemu_microvm"
    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"microvm"}),
        shares_kernel=False,
        root=RootKind.SHARED,
        machine=Machine(memory=DEFAULT_MEMORY),
        lacks={
            Capability.DISPLAY: NO_SCREEN,
            Capability.FIRMWARE: NO_FIRMWARE,
            Capability.DEVICES: Lack("A microVM has a kernel of its own, without the host's devices"),
            Capability.SOCKETS: Lack("A microVM has a kernel of its own, without the host's sockets"),
            Capability.PRIVILEGES: Lack("A microVM has a kernel of its own, and so no rights on the host's"),
            Capability.CONFINEMENT: Lack("Programs in a microVM have all rights on its kernel, which is theirs alone"),
            Capability.FILTERS: Lack(
                "Programs in a microVM have its kernel for themselves, and nothing filters what they ask of it",
                remedy="the wall is around all of them: unset it, or use a container",
            ),
            Capability.SYSTEM_CALLS: Lack(
                "System calls of programs in a microVM are answered by its own kernel",
                remedy="use a sandbox or a container",
            ),
            Capability.PORTS: Lack(
                "The sockets of a microVM are those of its own kernel", remedy="use a sandbox or a container"
            ),
            Capability.PROCESS_LIMIT: Lack("The processes in a microVM are counted by its own kernel"),
            Capability.SHARED_NAMESPACES: Lack("MicroVMs share no kernel, and so no namespaces"),
        },
    )

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Boots a kernel, once for each boot of the host."""
        return await probing.probe(host)


DRIVER = QemuMicrovm
