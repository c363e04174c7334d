"""A running unikernel: QEMU outside, and nothing of ours inside."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from isola.errors import AlreadyExists, Unsupported
from isola.host.guest_mounts import Tree
from isola.host.roots import Root
from isola.model.disk import Disk
from isola.model.instance import Address, InterfaceState
from isola.model.limits import Limits
from isola.model.stats import ProcessTable
from isola.runtimes.capabilities import Capability
from isola.runtimes.guest import Execution
from isola.runtimes.qemu import machine, saving, vm_machine
from isola.runtimes.qemu.blocks import Blocks
from isola.runtimes.qemu.guest import VmGuest, worked
from isola.runtimes.qemu.limits import MIB, memory_of
from isola.runtimes.qemu.qmp import violation
from isola.runtimes.qemu.vm_machine import node_of
from isola.runtimes.spec import ExecSpec, TapNic

_KILL = 9
_ENABLED_EVENTS = 0x602
"""Port of ACPI's register PM1_EN, where the firmware puts it."""
_POWER_BUTTON = 1 << 8
_NO_REGISTER = 0xFFFF
_READ = re.compile(r"= 0x([0-9a-f]{4})\b")
_RESTART = "restart the instance"


class UnikernelGuest(VmGuest):
    """What needs an agent is refused with the runtime's reason."""

    # --- life ---------------------------------------------------------------------------------------------------

    async def request_stop(self) -> None:
        """Presses the power button if the kernel listens to it; otherwise nothing in it can be asked, and it ends."""
        if not self.session.alive:
            return
        if await self._listens():
            await self.session.qmp.execute("system_powerdown")
        else:
            self._end()

    async def signal(self, signum: int) -> None:
        """SIGKILL ends it, its stop signal asks it to stop. Raises Unsupported for all others."""
        if not self.session.alive:
            return
        if signum == _KILL:
            return self._end()
        if signum != self.session.spec.stop_signal:
            self._runtime.capabilities.require(Capability.SIGNAL)
        await self.request_stop()

    async def resume(self) -> None:
        """Start its virtual CPUs again."""
        if self.frozen():
            await self.session.qmp.execute("cont")
            self.session.hold(paused=False)

    async def write_state(self, to: Path) -> None:
        """With its NICs by number: it has no slots."""
        nics = [(number, nic.mac) for number, nic in enumerate(self.session.spec.nics)]
        await saving.save(self._host, self.session.qmp, self._vm_layout, to, nics=nics)

    async def _ready_to_save(self) -> None:
        """Always: it has no commands, and no files of the host."""

    def _end(self) -> None:
        self._host.processes.signal(self.session.run.qemu, _KILL)

    async def _listens(self) -> bool:
        """Whether the kernel has asked for the event of the power button."""
        answer: Any = await self.session.qmp.execute(
            "human-monitor-command", {"command-line": f"i /h {_ENABLED_EVENTS:#x}"}
        )
        found = _READ.search(answer) if isinstance(answer, str) else None
        if found is None:
            raise violation(answer)
        value = int(found[1], 16)
        return value != _NO_REGISTER and bool(value & _POWER_BUTTON)

    # --- inside -------------------------------------------------------------------------------------------------

    async def exec(self, spec: ExecSpec) -> Execution:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.EXEC)
        raise AssertionError

    @asynccontextmanager
    async def files(self) -> AsyncIterator[Root]:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.FILES)
        raise AssertionError
        yield

    async def resize_console(self, width: int, height: int) -> None:
        """A serial line has no size."""
        self._require_terminal()

    async def process_table(self) -> ProcessTable:
        """Raises Unsupported: it has no processes."""
        self._runtime.capabilities.require(Capability.EXEC)
        raise AssertionError

    # --- watched ------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """No effect: it does not report any."""

    def interfaces(self) -> tuple[InterfaceState, ...]:
        """as its networks know them; it does not report any."""
        return tuple(_state(nic) for nic in self.session.spec.nics) if self.session.alive else ()

    def refused_ports(self) -> Mapping[str, int]:
        """Its own kernel has its sockets."""
        return {}

    async def refused_calls(self) -> Mapping[tuple[int, str], int]:
        """The same."""
        return {}

    async def limit(self, limits: Limits) -> None:
        """CPU time by the host; its memory is that of its start."""
        before = memory_of(self.session.spec.limits, self._runtime.sizes)
        if memory_of(limits, self._runtime.sizes) != before:
            raise Unsupported(
                f"The memory of a running unikernel stays the {before // MIB} MiB that it was started with",
                remedy=_RESTART,
                field="config.limits.memory",
            )
        await self._host.cgroups.limit(self._group, self._runtime.of_group(limits))

    # --- disks --------------------------------------------------------------------------------------------------

    async def disks(self) -> frozenset[str]:
        """Without those that were removed, whose devices are still there."""
        blocks, found = Blocks(self.session), set()
        for name in await blocks.devices():
            path = f"/machine/peripheral/{vm_machine.device_of(name)}"
            if await self.session.qmp.execute("qom-get", {"path": path, "property": "drive"}) == node_of(name):
                found.add(name)
        return frozenset(found)

    async def add_disk(self, disk: Disk) -> None:
        """One that it had at its start, and that was removed. Raises Unsupported for all others."""
        blocks = Blocks(self.session)
        if disk.name not in await blocks.devices():
            self._runtime.capabilities.require(Capability.PLUGGED_DISKS)
        if disk.name in await self.disks():
            raise AlreadyExists(f"The unikernel has a disk {disk.name!r} already")
        await blocks.open(disk)
        await self._turn(disk.name, node_of(disk.name))
        await self._drop_failing(disk.name)

    async def remove_disk(self, name: str) -> None:
        """Its file is closed; the kernel sees a disk that fails."""
        if not self.session.alive or name not in await self.disks():
            return
        size = await Blocks(self.session).size(name)
        for node in vm_machine.failing(name, size):
            await self.session.qmp.execute("blockdev-add", node)
        await self._turn(name, vm_machine.failing_node(name))
        await Blocks(self.session).forget(name)

    async def resize_disk(self, name: str, size: int) -> None:
        """QEMU grows the file, and tells the kernel."""
        await Blocks(self.session).resize(name, size)

    async def _turn(self, name: str, node: str) -> None:
        path = f"/machine/peripheral/{vm_machine.device_of(name)}"
        await self.session.qmp.execute("qom-set", {"path": path, "property": "drive", "value": node})

    async def _drop_failing(self, name: str) -> None:
        for node in reversed(vm_machine.failing(name, 0)):
            await worked(self.session.qmp.execute, "blockdev-del", {"node-name": node["node-name"]})

    # --- NICs and mounts ----------------------------------------------------------------------------------------

    async def plug(self, nic: TapNic) -> None:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.PLUGGED_NICS)

    async def unplug(self, link: str) -> None:
        """Its tap is closed; the kernel sees a NIC that is silent."""
        if self.session.alive:
            await self.session.qmp.execute("set_link", {"name": f"nic-{machine.name_of(link)}", "up": False})
            await self.session.qmp.execute("netdev_del", {"id": f"tap-{machine.name_of(link)}"})

    async def mount(self, tree: Tree, target: str) -> None:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.MOUNTS)

    async def unmount(self, number: int) -> None:
        """No effect: it has no mounts, and a rollback may ask."""

    async def mounts(self) -> frozenset[int]:
        """Raises Unsupported."""
        self._runtime.capabilities.require(Capability.MOUNTS)
        raise AssertionError


def _state(nic: TapNic) -> InterfaceState:
    found = nic.inside.addresses if nic.inside is not None else ()
    addresses = []
    for each in found:
        address = ip_interface(each)
        addresses.append(
            Address(
                "inet" if address.version == 4 else "inet6", str(address.ip), str(address.network.prefixlen), "global"
            )
        )
    return dataclasses.replace(
        InterfaceState(nic.interface), addresses=tuple(addresses), hwaddr=nic.mac, host_name=nic.link, mtu=nic.mtu
    )
