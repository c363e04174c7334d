"""Unikernels in QEMU: the kernel of an image is started directly, and is the whole guest."""

from __future__ import annotations

from typing import ClassVar

from isola.host import Host
from isola.model.probe import Probe
from isola.runtimes.capabilities import NO_FIRMWARE, NO_SCREEN, Capability, Lack, Machine, RuntimeCapabilities
from isola.runtimes.qemu import probing
from isola.runtimes.qemu.unikernel import SIZES, UnikernelRuntime

_NO_PROCESSES = Lack("A unikernel has no processes that could be limited", remedy="limit its memory and CPU time")
_NO_HOST = "A unikernel has a kernel of its own"


class QemuUnikernel(UnikernelRuntime):
    """On the machine that the image asks for; its root is only read, by the host, when it starts."""

    name = "qemu_unikernel"
    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"unikernel"}),
        shares_kernel=False,
        machine=Machine(memory=SIZES.default),
        lacks={
            Capability.EXEC: Lack(
                "A unikernel is one program without processes, in which no other one can be started",
                remedy="use its console, or a protocol that it speaks; run another image as microvm",
            ),
            Capability.FILES: Lack(
                "The files in a running unikernel are its own, in its memory",
                remedy="stop it: its root, with the kernel, can be read and written then",
            ),
            Capability.SIGNAL: Lack(
                "A unikernel has no processes, and so no signals but those that end it",
                remedy="stop it, kill it, or use its console",
            ),
            Capability.DISPLAY: NO_SCREEN,
            Capability.FIRMWARE: NO_FIRMWARE,
            Capability.PLUGGED_NICS: Lack(
                "A unikernel looks for NICs when it starts", remedy="restart the instance after the change"
            ),
            Capability.PLUGGED_DISKS: Lack(
                "A unikernel looks for disks when it starts", remedy="restart the instance after the change"
            ),
            Capability.UMASK: Lack("A unikernel has no files of the host that it would create"),
            Capability.MOUNTS: Lack(
                "A unikernel has no agent that would mount directories of the host",
                remedy="put the files into the image, or let it fetch them; run another image as microvm",
            ),
            Capability.DEVICES: Lack(f"{_NO_HOST}, without the host's devices"),
            Capability.SOCKETS: Lack(f"{_NO_HOST}, without the host's sockets", remedy="publish a port of its address"),
            Capability.PRIVILEGES: Lack(f"{_NO_HOST}, and so no rights on the host's"),
            Capability.CONFINEMENT: Lack("A unikernel has all rights on its machine, which is its alone"),
            Capability.FILTERS: Lack("A unikernel makes no system calls"),
            Capability.SYSTEM_CALLS: Lack("A unikernel makes no system calls"),
            Capability.PORTS: Lack("A unikernel has no sockets of the host"),
            Capability.SYSCTLS: Lack("A unikernel has no sysctls", remedy="use its arguments"),
            Capability.ULIMITS: _NO_PROCESSES,
            Capability.PROCESS_LIMIT: _NO_PROCESSES,
            Capability.SHARED_NAMESPACES: Lack("Unikernels share no kernel, and so no namespaces"),
            Capability.REBOOT: Lack(
                "A unikernel that resets its machine has ended",
                remedy="set its restart policy, isola.restart",
            ),
        },
    )

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """As for microVMs: the same hypervisor boots a kernel, once for each boot of the host."""
        return await probing.probe(host, server=False)


DRIVER = QemuUnikernel
