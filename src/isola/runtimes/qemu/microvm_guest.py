"""A running microVM: its agent is its first process, and uses what the machine gets while it runs."""

from __future__ import annotations

from isola.errors import TimedOut
from isola.model.limits import Limits
from isola.runtimes.qemu import saving
from isola.runtimes.qemu.growth import Growth
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.limits import of_group

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

    async def _use_cpus(self, wanted: int) -> None:
        """Its kernel takes a moment to find them; those that an emulated machine keeps are not used."""
        agent, used = await self.session.agent(), 0
        for _ in range(_LOOKS):
            if (used := await agent.use_cpus(wanted)) == wanted:
                return
            await self._host.clock.sleep(_LOOK)
        raise TimedOut(f"The guest uses {used} CPUs, not {wanted}", remedy="restart the instance")
