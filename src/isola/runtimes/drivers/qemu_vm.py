"""QEMU's q35 machine with UEFI: systems with a kernel and disks of their own."""

from __future__ import annotations

from typing import ClassVar

from isola.errors import DriverUnavailable
from isola.host import Host
from isola.model.probe import Probe
from isola.runtimes.capabilities import Capability, Lack, Machine, RuntimeCapabilities
from isola.runtimes.qemu import firmware, probing
from isola.runtimes.qemu.limits import MIB
from isola.runtimes.qemu.vm import VmRuntime
from isola.runtimes.spec import RootKind


class QemuVm(VmRuntime):
    """With firmware; its root is a disk, and what happens inside is its system's business."""

    name = "qemu_vm"
    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"vm"}),
        shares_kernel=False,
        root=RootKind.DISKS,
        machine=Machine(memory=1024 * MIB),
        lacks={
            Capability.DEVICES: Lack("A virtual machine has a kernel of its own, without the host's devices"),
            Capability.SOCKETS: Lack("A virtual machine has a kernel of its own, without the host's sockets"),
            Capability.PRIVILEGES: Lack("A virtual machine has a kernel of its own, and so no rights on the host's"),
            Capability.CONFINEMENT: Lack("Programs in a virtual machine have the rights that its system gives them"),
            Capability.FILTERS: Lack("Programs in a virtual machine have the rights that its system gives them"),
            Capability.UMASK: Lack("Programs in a virtual machine have the umask that its system gives them"),
            Capability.SYSTEM_CALLS: Lack(
                "System calls of programs in a virtual machine are answered by its own kernel"
            ),
            Capability.PORTS: Lack("The sockets of a virtual machine are those of its own kernel"),
            Capability.SYSCTLS: Lack("A virtual machine sets its kernel by itself", remedy="write /etc/sysctl.d in it"),
            Capability.ULIMITS: Lack(
                "A virtual machine limits its programs by itself", remedy="write /etc/security/limits.d in it"
            ),
            Capability.PROCESS_LIMIT: Lack("The processes in a virtual machine are counted by its own kernel"),
            Capability.SHARED_NAMESPACES: Lack("Virtual machines share no kernel, and so no namespaces"),
        },
    )

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """As for microVMs, and the firmware."""
        try:
            await firmware.require(host)
        except DriverUnavailable as error:
            return Probe(available=False, reason=error.message, remedy=error.remedy)
        return await probing.probe(host)


DRIVER = QemuVm
