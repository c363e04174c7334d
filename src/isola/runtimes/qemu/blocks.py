"""Disks of a running machine: files and block devices of the host that QEMU gets as descriptors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from isola.errors import HostFailure, InvalidInput, IsolaError, NotFound, Unsupported
from isola.host.disk_files import is_device, open_disk
from isola.host.threads import in_thread
from isola.model.disk import Disk
from isola.runtimes.qemu import vm_machine
from isola.runtimes.qemu.qmp import violation
from isola.runtimes.qemu.session import Session
from isola.runtimes.qemu.vm_machine import Drive


@dataclass(frozen=True, slots=True)
class Drives:
    """Disks that a machine has from its start on."""

    drives: tuple[Drive, ...]
    opened: Mapping[str, tuple[str, bool]]
    """As in a job."""


async def drives_of(disks: Sequence[Disk], order: Mapping[str, int] | None = None) -> Drives:
    """As QEMU gets them; without an order nothing is booted from them."""
    made: list[Drive] = []
    opened: dict[str, tuple[str, bool]] = {}
    for number, disk in enumerate(disks):
        own, below = f"disk{number}", f"base{number}" if disk.backing else ""
        opened[own] = (str(disk.path), not (disk.read_only or disk.cdrom))
        if disk.backing:
            opened[below] = (str(disk.backing), False)
        made.append(
            Drive(
                name=disk.name,
                format=disk.format.value,
                descriptor=own,
                device=await in_thread(is_device, str(disk.path)),
                backing=below,
                read_only=disk.read_only or disk.cdrom,
                cdrom=disk.cdrom,
                bus=disk.bus,
                order=0 if order is None else order[disk.name],
            )
        )
    return Drives(tuple(made), opened)


class Blocks:
    """The nodes of one machine, which its devices read and write."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def devices(self) -> frozenset[str]:
        """Names of disks that have a device."""
        found = await self._session.qmp.execute("qom-list", {"path": "/machine/peripheral"})
        names = (vm_machine.name_of_device(str(each.get("name"))) for each in found if isinstance(each, dict))
        return frozenset(name for name in names if name is not None)

    async def open(self, disk: Disk) -> Drive:
        """Make its nodes. Raises HostFailure; then there are none."""
        paths = [str(disk.path), *([str(disk.backing)] if disk.backing else [])]
        try:
            device = await in_thread(is_device, paths[0])
        except OSError as error:
            raise _unopened(paths[0], error) from error
        drive = Drive(
            disk.name,
            disk.format.value,
            "",
            device=device,
            read_only=disk.read_only or disk.cdrom,
            cdrom=disk.cdrom,
            bus=disk.bus,
        )
        sets: list[int] = []
        try:
            for number, path in enumerate(paths):
                sets.append(await self._lend(path, writable=number == 0 and not drive.read_only))
            files = [f"/dev/fdset/{number}" for number in sets]
            for node in vm_machine.nodes(drive, *files):
                await self._session.qmp.execute("blockdev-add", node)
        except BaseException:
            await self.forget(disk.name)
            raise
        finally:
            # It has copies of those that it uses.
            for number in sets:
                with suppress(HostFailure):
                    await self._session.qmp.execute("remove-fd", {"fdset-id": number})
        return drive

    async def forget(self, name: str) -> None:
        """Its nodes, which no device uses any more; no effect if there are none."""
        for node in vm_machine.names_of_nodes(name):
            with suppress(IsolaError):
                await self._session.qmp.execute("blockdev-del", {"node-name": node})

    async def resize(self, name: str, size: int) -> None:
        """QEMU grows the file, and tells the guest.

        Raises NotFound, InvalidInput if it is larger already, Unsupported if the guest only reads it.
        """
        present = await self.size(name)
        if size < present:
            raise InvalidInput(f"The disk {name!r} has {present} bytes already; disks do not shrink")
        if (await self._node(name)).get("ro"):
            raise Unsupported(f"The disk {name!r} is only read, and has its new size at the next start")
        await self._session.qmp.execute("block_resize", {"node-name": vm_machine.node_of(name), "size": size})

    async def size(self, name: str) -> int:
        """Bytes; 0 if QEMU does not say it. Raises NotFound."""
        present = (await self._node(name)).get("image", {}).get("virtual-size", 0)
        return present if isinstance(present, int) else 0

    async def _node(self, name: str) -> Mapping[str, Any]:
        node = vm_machine.node_of(name)
        found: Any = await self._session.qmp.execute("query-named-block-nodes", {"flat": True})
        known = {each["node-name"]: each for each in found if isinstance(each, dict) and "node-name" in each}
        if node not in known:
            raise NotFound(f"The virtual machine has no disk {name!r}")
        return cast(Mapping[str, Any], known[node])

    async def _lend(self, path: str, *, writable: bool) -> int:
        """The number of a set of QEMU's with the file's descriptor."""
        try:
            descriptor = await in_thread(open_disk, path, writable=writable)
        except OSError as error:
            raise _unopened(path, error) from error
        try:
            answer = await self._session.qmp.execute("add-fd", descriptor=descriptor)
        finally:
            os.close(descriptor)
        number = answer.get("fdset-id") if isinstance(answer, dict) else None
        if not isinstance(number, int):
            raise violation(answer)
        return number


def _unopened(path: str, error: OSError) -> HostFailure:
    return HostFailure(f"The disk {Path(path).name} cannot be opened", evidence=str(error))
