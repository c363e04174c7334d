"""A guest with firmware, disks and a screen, and perhaps an agent."""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import suppress
from pathlib import Path

from isola.errors import AlreadyExists, HostFailure, InvalidInput, IsolaError, NotFound, Unsupported
from isola.host.disk_files import is_device, open_disk
from isola.host.guest_mounts import Tree
from isola.host.sockets import Stream
from isola.host.threads import in_thread
from isola.model.disk import Disk
from isola.model.limits import Limits
from isola.runtimes.agent.agent import Agent
from isola.runtimes.qemu import vm_machine
from isola.runtimes.qemu.growth import Growth
from isola.runtimes.qemu.guest import VmGuest, worked
from isola.runtimes.qemu.limits import ALLOWANCE_WITH_SCREEN, of_group
from isola.runtimes.qemu.vm_machine import Drive
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

    async def disks(self) -> frozenset[str]:
        """Devices of the machine that have names of disks."""
        found = await self.session.qmp.execute("qom-list", {"path": "/machine/peripheral"})
        names = (vm_machine.name_of_device(str(each.get("name"))) for each in found if isinstance(each, dict))
        return frozenset(name for name in names if name is not None)

    async def add_disk(self, disk: Disk) -> None:
        """its file is opened here, and its descriptor passed."""
        if disk.name in await self.disks():
            raise AlreadyExists(f"The virtual machine has a disk {disk.name!r} already")
        paths = [str(disk.path), *([str(disk.backing)] if disk.backing else [])]
        try:
            device = await in_thread(is_device, paths[0])
        except OSError as error:
            raise _unopened(paths[0], error) from error
        drive = Drive(
            disk.name, disk.format.value, "", device=device, read_only=disk.read_only or disk.cdrom, cdrom=disk.cdrom
        )
        sets: list[int] = []
        try:
            for number, path in enumerate(paths):
                sets.append(await self._lend(path, writable=number == 0 and not drive.read_only))
            files = [f"/dev/fdset/{number}" for number in sets]
            for node in vm_machine.nodes(drive, *files):
                await self.session.qmp.execute("blockdev-add", node)
            await self.session.qmp.execute("device_add", vm_machine.disk_properties(drive))
        except BaseException:
            await self._forget(disk.name)
            raise
        finally:
            # It has copies of those that it uses.
            for number in sets:
                await worked(self.session.qmp.execute, "remove-fd", {"fdset-id": number})

    async def remove_disk(self, name: str) -> None:
        """The guest is asked to release it."""
        if not self.session.alive:
            return
        device = vm_machine.device_of(name)
        self.session.expect_removal(device)
        if await worked(self.session.qmp.execute, "device_del", {"id": device}):
            await self.session.removal(device, _RELEASING)
        await self._forget(name)

    async def resize_disk(self, name: str, size: int) -> None:
        """QEMU grows the file, and tells the guest."""
        node = vm_machine.node_of(name)
        found = await self.session.qmp.execute("query-named-block-nodes", {"flat": True})
        known = {each["node-name"]: each for each in found if isinstance(each, dict) and "node-name" in each}
        if node not in known:
            raise NotFound(f"The virtual machine has no disk {name!r}")
        present = known[node].get("image", {}).get("virtual-size", 0)
        if isinstance(present, int) and size < present:
            raise InvalidInput(f"The disk {name!r} has {present} bytes already; disks do not shrink")
        await self.session.qmp.execute("block_resize", {"node-name": node, "size": size})

    async def _lend(self, path: str, *, writable: bool) -> int:
        """The number of a set of QEMU's with the file's descriptor."""
        try:
            descriptor = await in_thread(open_disk, path, writable=writable)
        except OSError as error:
            raise _unopened(path, error) from error
        try:
            answer = await self.session.qmp.execute("add-fd", descriptor=descriptor)
        finally:
            os.close(descriptor)
        number = answer.get("fdset-id") if isinstance(answer, dict) else None
        if not isinstance(number, int):
            raise HostFailure("The hypervisor does not keep to its protocol", evidence=repr(answer)[:200])
        return number

    async def _forget(self, name: str) -> None:
        for node in vm_machine.names_of_nodes(name):
            with suppress(IsolaError):
                await self.session.qmp.execute("blockdev-del", {"node-name": node})

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


def _unopened(path: str, error: OSError) -> HostFailure:
    return HostFailure(f"The disk {Path(path).name} cannot be opened", evidence=str(error))
