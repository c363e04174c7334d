"""A guest with firmware, disks and a screen, and perhaps an agent."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress

from isola.errors import AlreadyExists, HostFailure, InvalidInput, IsolaError, Unsupported
from isola.host.guest_mounts import Tree
from isola.host.sockets import Stream
from isola.model.disk import Disk
from isola.model.limits import Limits
from isola.runtimes.agent.agent import Agent
from isola.runtimes.qemu import vm_machine
from isola.runtimes.qemu.blocks import Blocks
from isola.runtimes.qemu.growth import Growth
from isola.runtimes.qemu.guest import VmGuest, worked
from isola.runtimes.qemu.limits import ALLOWANCE_WITH_SCREEN, of_group
from isola.runtimes.spec import TapNic

_RELEASING = 10.0
"""Seconds that a guest has to release a disk."""
_WRITING = 5.0
"""Seconds that a guest has to write to its disks before it is paused."""
_VIEWERS = itertools.count(1)
_SCREENS = ("spice", "vnc")


class DiskGuest(VmGuest):
    """One run of a virtual machine with disks of its own."""

    async def request_stop(self) -> None:
        """By its agent, or by the power button."""
        if not self.session.alive:
            return
        try:
            await (await self.session.agent(seconds=5)).request_stop()
        except IsolaError:
            if self.session.alive:
                await self.session.qmp.execute("system_powerdown")

    async def resize_console(self, width: int, height: int) -> None:
        """No effect: a serial port has no size."""
        self._require_terminal()

    async def pause(self) -> None:
        """What its programs have written is on its disks before that, if its agent answers: so snapshots have it."""
        if not self.frozen():
            with suppress(IsolaError, TimeoutError):
                async with asyncio.timeout(_WRITING):
                    await (await self.session.agent(seconds=_WRITING)).sync()
        await super().pause()

    async def limit(self, limits: Limits) -> None:
        """Memory and CPUs are added and removed; less memory than at its start is taken by the balloon."""
        self.require_running()
        growth = Growth(self._host, self.session)
        group = of_group(limits, ALLOWANCE_WITH_SCREEN)
        await growth.check(limits)
        if growth.grows(limits):
            await self._host.cgroups.limit(self._group, group)
        await growth.resize(limits)
        await self._host.cgroups.limit(self._group, group)

    async def display(self, protocol: str = "spice") -> Stream:
        """By the control socket: nothing listens for viewers."""
        qmp = self.session.qmp
        if protocol not in _SCREENS:
            raise InvalidInput(f"Screens are shown by {' or '.join(_SCREENS)}, not by {protocol!r}")
        pair = self._host.sockets.pair_with_child()
        name = f"viewer-{next(_VIEWERS)}"
        try:
            await qmp.execute("getfd", {"fdname": name}, descriptor=pair.remote)
            await qmp.execute("add_client", {"protocol": protocol, "fdname": name, "skipauth": True})
        except BaseException as error:
            pair.stream.close()
            if isinstance(error, HostFailure):
                raise Unsupported(
                    f"This QEMU shows no screens by {protocol}",
                    evidence=error.evidence,
                    remedy="apt-get install qemu-system-modules-spice, and start the instance again",
                ) from error
            raise
        finally:
            pair.close_remote()
        return pair.stream

    # --- disks --------------------------------------------------------------------------------------------------

    @property
    def _blocks(self) -> Blocks:
        return Blocks(self.session)

    async def disks(self) -> frozenset[str]:
        """Devices of the machine that have names of disks."""
        return await self._blocks.devices()

    async def add_disk(self, disk: Disk) -> None:
        """its file is opened here, and its descriptor passed."""
        if disk.name in await self.disks():
            raise AlreadyExists(f"The virtual machine has a disk {disk.name!r} already")
        drive = await self._blocks.open(disk)
        try:
            await self.session.qmp.execute("device_add", vm_machine.disk_properties(drive))
        except BaseException:
            await self._blocks.forget(disk.name)
            raise

    async def remove_disk(self, name: str) -> None:
        """The guest is asked to release it."""
        if not self.session.alive:
            return
        device = vm_machine.device_of(name)
        self.session.expect_removal(device)
        if await worked(self.session.qmp.execute, "device_del", {"id": device}):
            await self.session.removal(device, _RELEASING)
        await self._blocks.forget(name)

    async def resize_disk(self, name: str, size: int) -> None:
        """QEMU grows the file, and tells the guest."""
        await self._blocks.resize(name, size)

    # --- directories of the host -------------------------------------------------------------------------------

    async def mount(self, tree: Tree, target: str) -> None:
        """Served at once; inside it is mounted by the agent, as soon as there is one."""
        await super().mount(tree, target)
        assert self.session.shares is not None
        await self.session.shares.add(tree.number, target, await self._agent_if_any())

    async def unmount(self, number: int) -> None:
        """Inside first."""
        assert self.session.shares is not None
        with suppress(IsolaError):
            await self.session.shares.remove(number, await self._agent_if_any())
        await super().unmount(number)

    async def _agent_if_any(self) -> Agent | None:
        try:
            return None if self.frozen() else await self.session.agent()
        except IsolaError:
            return None

    # --- NICs ---------------------------------------------------------------------------------------------------

    async def configure(self, nic: TapNic) -> None:
        """Its system does that, unless there is something to say that only its agent can."""
        if nic.inside is not None:
            await super().configure(nic)
