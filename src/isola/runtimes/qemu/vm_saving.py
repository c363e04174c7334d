"""What a saved virtual machine has beyond a microVM: disks, memory and CPUs that came later, directories of the host.

Its firmware's variables and its TPM are in QEMU's stream, and in the root volume as always.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from isola.errors import InvalidInput, NotFound, Unsupported, WrongState
from isola.host import Host
from isola.host.disk_files import is_device
from isola.host.threads import in_thread
from isola.model.disk import Disk
from isola.runtimes.qemu import machine, saving, vm_machine
from isola.runtimes.qemu.qmp import Qmp, violation
from isola.runtimes.qemu.saving import Shape, State
from isola.runtimes.qemu.vm_machine import Machine
from isola.runtimes.spec import Firmware, RunSpec

SEED = "seed"
"""Name of the copy of its seed: the guest may have read parts of it."""
_KEY = "vm"
_SLOTS = 64
"""More than any machine has."""


@dataclass(frozen=True, slots=True)
class SavedDisk:
    """A disk of a saved machine."""

    name: str
    bus: str
    place: int
    """As in ``vm_machine.Drive``."""
    read_only: bool
    cdrom: bool
    stamp: str
    """What its file was like; empty for the root, which only verbs of the instance change, and for devices."""


@dataclass(frozen=True, slots=True)
class More:
    """What ``saving.State`` does not say."""

    most_memory: int
    added: int
    """Bytes of memory that it had beyond that of its start."""
    cpus: int
    """When it was saved."""
    most_cpus: int
    secure: bool
    tpm: bool
    bios: bool
    agent: bool
    """It had one that answered."""
    disks: tuple[SavedDisk, ...]
    shares: tuple[str, ...]
    """Where it had directories of the host; without an agent none."""


@dataclass(frozen=True, slots=True)
class Continued:
    """A state from which an instance is being started."""

    state: State
    more: More
    images: Path
    wanted: RunSpec
    """What is configured now."""


async def described(
    host: Host, qmp: Qmp, spec: RunSpec, disks: Sequence[Disk], shares: Sequence[str], *, agent: bool
) -> Mapping[str, object]:
    """What a machine has that stands still, for ``saving.save``. ``disks``: all that it has now."""
    try:
        devices = await qmp.execute("query-memory-devices")
        sizes = [each["data"] for each in devices if each["data"].get("id") == machine.ADDED_MEMORY]
        cpus = await qmp.execute("query-hotpluggable-cpus")
        present = sum("qom-path" in each for each in cpus)
        most, added = (int(sizes[0]["max-size"]), int(sizes[0]["size"])) if sizes else (0, 0)
        slots = await saving.plugged_in(qmp, _SLOTS)
        saved = [await _observed(host, qmp, spec, disk, slots) for disk in disks]
    except (KeyError, TypeError, ValueError) as error:
        raise violation(error) from error
    more = More(most, added, present, len(cpus), *firmware_of(spec), agent, tuple(saved), tuple(shares))
    return {_KEY: asdict(more)}


async def read(host: Host, images: Path) -> tuple[State, More]:
    """What was saved. Raises WrongState if it is incomplete or damaged."""
    state = await saving.read(host, images)
    try:
        found: dict[str, Any] = json.loads(await host.files.read(images / saving.STATE, 1 << 20))[_KEY]
        disks = tuple(SavedDisk(**each) for each in found.pop("disks"))
        more = More(**found | {"disks": disks, "shares": tuple(map(str, found["shares"]))})
        if await host.files.exists(images / SEED):
            return state, more
    except (NotFound, ValueError, KeyError, TypeError):
        pass
    raise WrongState("The saved state is not complete", remedy="start it without its state")


def require_fit(state: State, more: More, shape: Shape, spec: RunSpec, qemu: str) -> None:
    """As that of microVMs; more and less memory and more CPUs follow when it runs again. Pure.

    ``shape``, ``spec`` and ``qemu`` are those of today.
    """
    most = state.shape.memory + more.most_memory
    memory = state.shape.memory if shape.memory <= most else shape.memory
    cpus = state.shape.cpus if shape.cpus <= _reachable(state, more) else shape.cpus
    differing = []
    keys, had = ("security.secureboot", "a TPM", "security.csm"), (more.secure, more.tpm, more.bios)
    for key, then, now in zip(keys, had, firmware_of(spec), strict=True):
        if then != now:
            differing.append(f"{key} was {str(then).lower()}")
    there = {disk.name: disk for disk in spec.disks}
    for disk in more.disks:
        if disk.name not in there:
            differing.append(f"it had a disk {disk.name!r}")
        elif (disk.read_only, disk.cdrom) != _manner(there[disk.name]):
            differing.append(f"the disk {disk.name!r} was {'only read' if disk.read_only else 'written to'}")
        elif disk.bus != _bus(there[disk.name]):
            differing.append(f"the disk {disk.name!r} had io.bus {disk.bus}")
    saving.require_fit(state, replace(shape, memory=memory, cpus=cpus), qemu, spec.nics, further=differing)


async def require_unchanged(host: Host, more: More, spec: RunSpec) -> None:
    """Raises WrongState if the guest would find other content on a disk than it has in its memory."""
    there = {disk.name: disk for disk in spec.disks}
    for saved in more.disks:
        if saved.stamp and saved.stamp != await _stamp(host, there[saved.name].path):
            raise WrongState(
                f"The disk {saved.name!r} was changed since the state was saved",
                evidence="what is in memory would not agree with it, and the guest would destroy its file systems",
                remedy="start it without its state",
            )


def require_known_buses(disks: Sequence[Disk]) -> None:
    """Raises Unsupported for disks of which QEMU cannot save the state. Pure."""
    for disk in disks:
        if disk.bus == vm_machine.NVME:
            raise Unsupported(
                f"The state of the disk {disk.name!r} cannot be saved: QEMU does not save that of nvme",
                remedy="set io.bus=virtio-blk or io.bus=virtio-scsi and restart it, or do it without stateful",
            )


def require_own_disks(spec: RunSpec, disks: Sequence[Disk]) -> None:
    """Raises Unsupported if it can write to disks that a snapshot of its root does not have. Pure."""
    for disk in disks:
        if not (disk.read_only or disk.cdrom) and not _is_own(spec, disk):
            raise Unsupported(
                f"Memory and the disk {disk.name!r} cannot be kept in one snapshot",
                evidence="a snapshot has the root disk alone: restored, memory would not agree with the other disk",
                remedy="detach the disk or make it readonly, take a snapshot without stateful, or stop with stateful",
            )


def continued(today: Machine, found: Continued) -> Machine:
    """The machine of a state that fits, which waits for it. Pure."""
    state, more = found.state, found.more
    slots = {mac.lower(): slot for slot, mac in state.nics}
    nics = tuple(replace(nic, slot=slots[nic.mac.lower()]) for nic in today.nics if nic.mac.lower() in slots)
    places = {disk.name: disk.place for disk in more.disks}
    return replace(
        today,
        memory=state.shape.memory,
        most_memory=state.shape.memory + more.most_memory,
        cpus=more.cpus,
        most_cpus=more.most_cpus,
        slots=state.shape.slots,
        nics=nics,
        drives=tuple(replace(drive, place=places[drive.name]) for drive in today.drives),
        incoming=True,
        announced=state.shape.announced,
    )


def spec_of(spec: RunSpec, state: State, more: More) -> RunSpec:
    """With the disks that it had, and the memory with which it was started. Pure."""
    there = {disk.name: disk for disk in spec.disks}
    disks = tuple(there[each.name] for each in more.disks)
    return replace(spec, disks=disks, limits=replace(spec.limits, memory=state.shape.memory))


def firmware_of(spec: RunSpec) -> tuple[bool, bool, bool]:
    """Secure boot, a TPM, and a BIOS instead of UEFI. Pure."""
    firmware = spec.firmware or Firmware()
    return firmware.secure_boot and not firmware.bios, firmware.tpm, firmware.bios


async def read_disks(host: Host, place: Path) -> dict[str, Disk]:
    """Those that were added to a running machine, by name."""
    try:
        found = json.loads(await host.files.read(place))
        return {
            name: Disk(name, Path(path), read_only=bool(only), cdrom=bool(disc), bus=str(bus))
            for name, path, only, disc, bus in found
        }
    except (NotFound, ValueError, TypeError):
        return {}


async def write_disks(host: Host, place: Path, disks: Mapping[str, Disk]) -> None:
    """For the daemon that will save the machine."""
    facts = [(name, str(disk.path), disk.read_only, disk.cdrom, disk.bus) for name, disk in disks.items()]
    await host.files.write(place, json.dumps(facts).encode(), durable=False)


# --- how --------------------------------------------------------------------------------------------------------------


def _reachable(state: State, more: More) -> int:
    """CPUs that it can get while it runs: see ``growth``."""
    return more.cpus if more.secure and state.shape.accelerator == "tcg" else more.most_cpus


def _manner(disk: Disk) -> tuple[bool, bool]:
    return disk.read_only or disk.cdrom, disk.cdrom


def _is_own(spec: RunSpec, disk: Disk) -> bool:
    return disk.path.is_relative_to(spec.root.path)


def _bus(disk: Disk) -> str:
    return disk.bus or vm_machine.VIRTIO_SCSI


async def _observed(host: Host, qmp: Qmp, spec: RunSpec, disk: Disk, slots: Mapping[str, int]) -> SavedDisk:
    device = vm_machine.device_of(disk.name)
    if disk.bus in vm_machine.SLOTTED:
        place = slots[device]
    else:
        place = int(await qmp.execute("qom-get", {"path": f"/machine/peripheral/{device}", "property": "scsi-id"}))
    stamp = "" if _is_own(spec, disk) else await _stamp(host, disk.path)
    return SavedDisk(disk.name, _bus(disk), place, *_manner(disk), stamp)


async def _stamp(host: Host, path: Path) -> str:
    try:
        if await in_thread(is_device, str(path)):
            return ""
        return f"{await host.files.size(path)} {(await host.files.modified(path)).isoformat()}"
    except (OSError, NotFound, InvalidInput):
        return "gone"
