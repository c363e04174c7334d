"""A runtime of virtual machines without a hypervisor: guests have no PID, signals or paths on the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from isola.errors import AlreadyExists, NotFound, Unsupported
from isola.host import Host
from isola.host.sockets import Stream
from isola.model.disk import Disk
from isola.model.identity import HostNames
from isola.model.instance import InterfaceState
from isola.model.network import HostTap, NetworkNamespace
from isola.model.stats import ProcessTable
from isola.runtimes import Capability, Lack, Machine, RootKind, RunSpec, RuntimeCapabilities, TapNic
from isola.runtimes.capabilities import NO_DISKS
from isola.testing.namespaces import LOOPBACK
from isola.testing.runtime import FakeGuest, FakeRuntime
from isola.testing.sockets import stream_pair

_POWER_BUTTON = 0
"""Represents the power button among the signals that end a guest."""


_OF_MACHINES = (Capability.FIRMWARE, Capability.DISKS, Capability.PLUGGED_DISKS)


class FakeVm(FakeRuntime):
    """Its guests have their own kernel: taps, a power button, and an agent for access to the inside."""

    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"microvm"}),
        shares_kernel=False,
        root=RootKind.SHARED,
        machine=Machine(memory=256 << 20),
        lacks={
            Capability.DEVICES: Lack("A virtual machine has a kernel of its own, without the host's devices"),
            Capability.SOCKETS: Lack("A virtual machine has a kernel of its own, without the host's sockets"),
            Capability.PRIVILEGES: Lack("A virtual machine has a kernel of its own, and so no rights on the host's"),
            Capability.CONFINEMENT: Lack("The fake's agent confines no program"),
            Capability.FILTERS: Lack("The fake's agent confines no program"),
            Capability.SYSTEM_CALLS: Lack("The fake's agent confines no program"),
            Capability.PORTS: Lack("The fake's machine has sockets of its own"),
            Capability.SIGNAL: Lack("A virtual machine has no first process on the host", remedy="stop it"),
            Capability.FIRMWARE: Lack("A machine without disks has no firmware"),
            **NO_DISKS,
            Capability.SHARED_NAMESPACES: Lack("Virtual machines share no kernel, and so no namespaces"),
        },
    )

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self.ends_on = frozenset({9, _POWER_BUTTON})

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported."""
        if spec.root.kind is not self.capabilities.root or spec.idmap is None or not isinstance(spec.network, HostTap):
            raise Unsupported(f"A virtual machine has a root of kind {self.capabilities.root.value}, ids, and taps")
        if spec.shares:
            self.capabilities.require(Capability.SHARED_NAMESPACES)

    def guest(self, id: str) -> FakeGuest:
        """The instance, whether or not it has ended."""
        return FakeVmGuest(self, id, self.instances[id].number)


class FakeMachine(FakeVm):
    """Its guests have firmware and disks of their own."""

    capabilities: ClassVar[RuntimeCapabilities] = replace(
        FakeVm.capabilities,
        isolations=frozenset({"vm"}),
        root=RootKind.DISKS,
        machine=Machine(memory=1 << 30),
        lacks={name: lack for name, lack in FakeVm.capabilities.lacks.items() if name not in _OF_MACHINES},
    )

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported."""
        super().require_supported(spec)
        if not spec.disks:
            raise Unsupported("A machine boots from a disk")

    def guest(self, id: str) -> FakeGuest:
        """The instance, whether or not it has ended."""
        instance = self.instances[id]
        if not instance.started and not instance.disks:
            instance.disks = {disk.name: disk for disk in instance.spec.disks}
        return FakeMachineGuest(self, id, instance.number)


class FakeVmGuest(FakeGuest):
    """One run of a virtual machine."""

    @property
    def number(self) -> int:
        """There is none."""
        return 0

    async def request_stop(self) -> None:
        """Presses the power button."""
        instance = self._instance()
        if instance is not None and instance.status is None:
            instance.stops += 1
            if _POWER_BUTTON in self._runtime.ends_on:
                self._runtime.end(self._id, 0)

    async def save(self, to: Path) -> None:
        """Writes its memory to a file; it stays paused."""
        assert self._require().frozen
        await self._keep(to)

    async def signal(self, signum: int) -> None:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.SIGNAL)

    async def display(self, protocol: str = "spice") -> Stream:
        """The far end is in ``FakeInstance.displays``."""
        near, far = stream_pair()
        self._require().displays.append(far)
        return near

    async def process_table(self) -> ProcessTable:
        """Its first process."""
        instance = self._require()
        return ProcessTable(("PID", "CMD"), (("1", " ".join(instance.spec.command)),))

    def interfaces(self) -> tuple[InterfaceState, ...]:
        """As reported by the agent."""
        instance = self._instance()
        if instance is None or instance.status is not None:
            return ()
        return (LOOPBACK, *(InterfaceState(nic.interface, hwaddr=nic.mac, mtu=nic.mtu) for nic in instance.nics))

    async def plug(self, nic: TapNic) -> None:
        self._require().nics.append(nic)

    async def unplug(self, link: str) -> None:
        """Removes the tap."""
        if (instance := self._instance()) is not None:
            instance.nics = [nic for nic in instance.nics if nic.link != link]

    async def keep_network(self, namespace: NetworkNamespace) -> None:
        """Raises Unsupported: its NICs end in taps."""
        raise Unsupported("A virtual machine has no network namespace")


class FakeMachineGuest(FakeVmGuest):
    """One run of a machine with disks, which are recorded in ``FakeInstance.disks``."""

    async def disks(self) -> frozenset[str]:
        """Their names."""
        return frozenset(self._require().disks)

    async def add_disk(self, disk: Disk) -> None:
        """Raises AlreadyExists."""
        disks = self._require().disks
        if disk.name in disks:
            raise AlreadyExists(f"There is a disk {disk.name!r}")
        disks[disk.name] = disk

    async def remove_disk(self, name: str) -> None:
        self._require().disks.pop(name, None)

    async def resize_disk(self, name: str, size: int) -> None:
        """Recorded in ``FakeInstance.disk_sizes``. Raises NotFound."""
        instance = self._require()
        if name not in instance.disks:
            raise NotFound(f"There is no disk {name!r}")
        instance.disk_sizes[name] = size
