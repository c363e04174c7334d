"""Disks of a machine with slots: each is a virtio disk in one of them, so that it can be removed. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from isola.errors import Unsupported
from isola.model.disk import Disk
from isola.runtimes.qemu import vm_machine
from isola.runtimes.qemu.machine import port_name
from isola.runtimes.qemu.vm_machine import Drive, node_of

BUS = "virtio-blk"
_FIRST_SET = 10
"""Number of the first set of descriptors of disks; those before are of the console."""
_LONGEST_SERIAL = 20


def properties(drive: Drive) -> dict[str, object]:
    """Of its device, without its slot. The guest sees the name as serial number."""
    return {
        "driver": "virtio-blk-pci",
        "id": vm_machine.device_of(drive.name),
        "drive": node_of(drive.name),
        "serial": drive.name[:_LONGEST_SERIAL],
    }


def cold(drives: Sequence[Drive], slot: int) -> list[str]:
    """Those that are there from the start, in slots from this number on."""
    return [arg for number, drive in enumerate(drives) for arg in _cold(drive, number, slot + number)]


def _cold(drive: Drive, number: int, slot: int) -> list[str]:
    first, node = _FIRST_SET + 2 * number, node_of(drive.name)
    sets = {f"/dev/fdset/{first}": drive.descriptor}
    sets |= {f"/dev/fdset/{first + 1}": drive.backing} if drive.backing else {}
    return [
        *(arg for place, descriptor in sets.items() for arg in _lent(place, descriptor, node)),
        *(arg for made in vm_machine.nodes(drive, *sets) for arg in ("-blockdev", json.dumps(made))),
        "-device", json.dumps(properties(drive) | {"bus": port_name(slot)}),
    ]  # fmt: skip


def _lent(place: str, descriptor: str, node: str) -> tuple[str, str]:
    return "-add-fd", f"set={place.rsplit('/', 1)[-1]},fd=@{descriptor}@,opaque={node}"


def require_bus(disk: Disk) -> None:
    """Raises Unsupported."""
    if disk.bus not in ("", BUS):
        raise Unsupported(
            f"Disks of microVMs are {BUS}, not {disk.bus}",
            field=f"devices.{disk.name}.io.bus",
            remedy="unset io.bus",
        )
