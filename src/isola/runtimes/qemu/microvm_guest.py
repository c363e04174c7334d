"""A running microVM: its agent is its first process, and uses what the machine gets while it runs."""

from __future__ import annotations

from pathlib import Path

from isola.errors import AlreadyExists, TimedOut, WrongState
from isola.model.disk import Disk
from isola.model.limits import Limits
from isola.runtimes.qemu import saving, slot_disks, vm_machine
from isola.runtimes.qemu.blocks import Blocks
from isola.runtimes.qemu.growth import Growth
from isola.runtimes.qemu.guest import VmGuest, worked
from isola.runtimes.qemu.limits import of_group

_RELEASING = 10.0
"""Seconds that a guest has to release a disk."""
_LOOK, _LOOKS = 0.1, 100
"""Seconds between looks whether the kernel has found a CPU, and how many there are."""


class MicrovmGuest(VmGuest):
    """One run of a microVM."""

    async def limit(self, limits: Limits) -> None:
        """Memory and CPUs come and go; less memory than at its start is taken by the balloon."""
        self.require_running()
        growth, group = Growth(self._host, self.session, firmware=False), of_group(limits)
        if not await growth.possible():
            return await super().limit(limits)
        await growth.check(limits)
        if growth.grows(limits):
            await self._host.cgroups.limit(self._group, group)
        await growth.resize(limits)
        await self._use_cpus(growth.cpus(limits))
        await saving.note_cpus(self._host, self._vm_layout, await growth.plugged())
        await self._host.cgroups.limit(self._group, group)

    # --- disks --------------------------------------------------------------------------------------------------

    async def disks(self) -> frozenset[str]:
        """Devices of the machine that have names of disks."""
        return await Blocks(self.session).devices()

    async def add_disk(self, disk: Disk) -> None:
        """Into the first free slot; its file is opened here, and its descriptor passed."""
        slot_disks.require_bus(disk)
        if disk.name in await self.disks():
            raise AlreadyExists(f"The microVM has a disk {disk.name!r} already")
        blocks = Blocks(self.session)
        drive = await blocks.open(disk)
        try:
            await self.insert(slot_disks.properties(drive))
        except BaseException:
            await blocks.forget(disk.name)
            raise

    async def remove_disk(self, name: str) -> None:
        """The guest is asked to release it."""
        if not self.session.alive:
            return
        device = vm_machine.device_of(name)
        self.session.expect_removal(device)
        if await worked(self.session.qmp.execute, "device_del", {"id": device}):
            await self.session.removal(device, _RELEASING)
        await Blocks(self.session).forget(name)

    async def resize_disk(self, name: str, size: int) -> None:
        """QEMU grows the file, and tells the kernel."""
        await Blocks(self.session).resize(name, size)

    async def save(self, to: Path) -> None:
        """Raises WrongState too if it has disks, which may change until it continues."""
        await self._require_no_disks()
        await super().save(to)

    async def checkpoint(self, to: Path) -> None:
        """The same."""
        if self.session.alive:
            await self._require_no_disks()
        await super().checkpoint(to)

    async def _require_no_disks(self) -> None:
        if found := await self.disks():
            raise WrongState(
                "The state of a microVM with disks cannot be saved",
                evidence=", ".join(sorted(found)),
                remedy="detach them first, or stop it without its state",
            )

    # --- how ----------------------------------------------------------------------------------------------------

    async def _use_cpus(self, wanted: int) -> None:
        """Its kernel takes a moment to find them; those that an emulated machine keeps are not used."""
        agent, used = await self.session.agent(), 0
        for _ in range(_LOOKS):
            if (used := await agent.use_cpus(wanted)) == wanted:
                return
            await self._host.clock.sleep(_LOOK)
        raise TimedOut(f"The guest uses {used} CPUs, not {wanted}", remedy="restart the instance")
