"""A running unikernel: QEMU outside, and nothing of ours inside."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_interface
from typing import Any

from isola.errors import HostFailure, Unsupported
from isola.host.guest_mounts import Tree
from isola.host.roots import Root
from isola.model.instance import Address, InterfaceState
from isola.model.limits import Limits
from isola.model.stats import ProcessTable
from isola.runtimes.capabilities import Capability
from isola.runtimes.guest import Execution
from isola.runtimes.qemu import machine
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.limits import MIB, memory_of
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

    def _end(self) -> None:
        self._host.processes.signal(self.session.run.qemu, _KILL)

    async def _listens(self) -> bool:
        """Whether the kernel has asked for the event of the power button."""
        said: Any = await self.session.qmp.execute(
            "human-monitor-command", {"command-line": f"i /h {_ENABLED_EVENTS:#x}"}
        )
        found = _READ.search(said) if isinstance(said, str) else None
        if found is None:
            raise HostFailure("The hypervisor does not keep to its protocol", evidence=repr(said)[:200])
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
