"""A guest with firmware, disks and a screen, and perhaps an agent."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from isola.errors import AlreadyExists, HostFailure, InvalidInput, IsolaError, Unsupported
from isola.host.guest_mounts import Tree
from isola.host.sockets import Stream
from isola.model.disk import Disk
from isola.model.limits import Limits
from isola.runtimes.agent.agent import Agent, Identity
from isola.runtimes.qemu import saving, vm_machine, vm_saving
from isola.runtimes.qemu.blocks import Blocks
from isola.runtimes.qemu.growth import Growth
from isola.runtimes.qemu.guest import VmGuest, worked
from isola.runtimes.qemu.limits import ALLOWANCE_WITH_SCREEN, of_group
from isola.runtimes.qemu.shares import PLACE
from isola.runtimes.qemu.vm_machine import Drive
from isola.runtimes.spec import TapNic

_RELEASING = 15.0
"""Seconds that a guest has to release a disk."""
_WRITING = 5.0
"""Seconds that a guest has to write to its disks before it is paused."""
_WAKING, _LOOK = 30.0, 0.2
"""Seconds that an agent has to answer after its machine was loaded, and between attempts."""
log = logging.getLogger(__name__)
_VIEWERS = itertools.count(1)
_SCREENS = ("spice", "vnc")


class DiskGuest(VmGuest):
    """One run of a virtual machine with disks of its own."""

    served = PLACE

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

    async def save(self, to: Path) -> None:
        """For a snapshot, which has its root alone. Raises Unsupported too."""
        disks = await self._present()
        vm_saving.require_known_buses(disks)
        vm_saving.require_own_disks(self.session.spec, disks)
        await super().save(to)

    async def write_state(self, to: Path) -> None:
        """With its disks as they are: QEMU has written all that it had of them."""
        session = self.session
        assert session.shares is not None
        shares, agent = await session.shares.there(), await session.has_listener()

        async def describe() -> Mapping[str, object]:
            disks = await self._present()
            return await vm_saving.described(self._host, session.qmp, session.spec, disks, shares, agent=agent)

        await self._host.files.duplicate(self._vm_layout.seed, to / vm_saving.SEED)
        await saving.save(self._host, session.qmp, self._vm_layout, to, more=describe)

    async def _ready_to_save(self) -> None:
        """Without an agent there are no commands. Raises Unsupported for a disk that cannot be saved."""
        vm_saving.require_known_buses(await self._present())
        if await self.session.has_listener():
            await super()._ready_to_save()

    async def woken(self, entropy: str) -> Agent | None:
        """After it was loaded: its agent, which has mixed this into the guest's random numbers; None without one."""
        end = self._host.clock.monotonic() + _WAKING
        while True:
            try:
                agent = await self.session.agent()
                await agent.identify(Identity(entropy=bytes.fromhex(entropy)))
                await self.set_clock(agent)
                return agent
            except IsolaError as error:
                if self._host.clock.monotonic() > end:
                    log.warning(
                        "The agent of instance %s has not answered since its state was loaded: %s", self.id, error
                    )
                    return None
                await self._host.clock.sleep(_LOOK)

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
            await self._insert_disk(drive)
            await self._remember(lambda added: {**added, disk.name: disk})
        except BaseException:
            await worked(self.session.qmp.execute, "device_del", {"id": vm_machine.device_of(disk.name)})
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
        await self._remember(lambda added: {each: disk for each, disk in added.items() if each != name})

    async def resize_disk(self, name: str, size: int) -> None:
        """QEMU grows the file, and tells the guest."""
        await self._blocks.resize(name, size)

    async def _present(self) -> tuple[Disk, ...]:
        """What its disks are: those of its start that are still there, and those that came later."""
        there, added = await self.disks(), await vm_saving.read_disks(self._host, self._vm_layout.added)
        known = {disk.name: disk for disk in self.session.spec.disks} | added
        return tuple(disk for name, disk in known.items() if name in there)

    async def _remember(self, change: Callable[[Mapping[str, Disk]], Mapping[str, Disk]]) -> None:
        place = self._vm_layout.added
        await vm_saving.write_disks(self._host, place, change(await vm_saving.read_disks(self._host, place)))

    async def _insert_disk(self, drive: Drive) -> None:
        """On its controller, or in the first free slot."""
        if not drive.slotted:
            await self.session.qmp.execute("device_add", vm_machine.disk_properties(drive))
            return
        await self.insert(vm_machine.disk_properties(replace(drive, place=0)))

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
