"""Command lines of QEMU for machines with firmware, disks and a screen. Pure.

``@NAME@`` stands for the number of an open descriptor, see ``host.hypervisor_job``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isola.model.agent_service import SEED_SERIAL
from isola.runtimes.qemu import machine
from isola.runtimes.qemu.machine import Nic
from isola.runtimes.qemu.session import AGENT_PORT

CODE, VARIABLES = "code", "variables"
"""Nodes of the firmware; the second is a descriptor too."""
TPM = "tpm"
SEED = "seed"
"""Node of the disk for the agent and cloud-init, and its descriptor."""
BUS = "scsi.0"
"""Of disks, which can be added to it while the machine runs."""
VIRTIO_SCSI, VIRTIO_BLK, NVME = "virtio-scsi", "virtio-blk", "nvme"
SLOTTED = {VIRTIO_BLK: "virtio-blk-pci", NVME: "nvme"}
"""Disks that are PCIe devices of their own, and their drivers in QEMU."""
MOST_SLOTTED = 16
"""NICs and such disks of the start, so that there are numbers left on the first PCIe bus."""
_QUEUES = 4
"""Of the controller of disks; QEMU's default is the number of CPUs, which is another when a saved machine continues."""
_DEVICE = "disk-of-"
_TRANSLATED_CODE = 64
_FIRST_SET = 10
"""Number of the first set of descriptors of disks; those before are of the console."""


@dataclass(frozen=True, slots=True)
class Drive:
    """A disk of the machine."""

    name: str
    format: str
    """``raw`` or ``qcow2``."""
    descriptor: str
    """Name of that of its file or block device."""
    device: bool = False
    """A block device of the host."""
    backing: str = ""
    """Name of the descriptor of a raw file that is only read, below it."""
    read_only: bool = False
    cdrom: bool = False
    order: int = 0
    """Place among the devices to boot from, from 1; 0: not booted from."""
    bus: str = ""
    """As in ``Disk.bus``."""
    place: int | None = None
    """Its address on the controller, or its slot, as a machine that continues had it; None: the next one."""

    @property
    def slotted(self) -> bool:
        """Whether it is a PCIe device of its own."""
        return self.bus in SLOTTED


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine."""

    id: str
    accelerator: str
    """``kvm`` or ``tcg``."""
    memory: int
    """Bytes of RAM, a multiple of a MiB."""
    most_memory: int
    """Up to which it can grow, in whole blocks beyond ``memory``."""
    cpus: int
    most_cpus: int
    code: Path | None
    """UEFI; None: QEMU's own BIOS."""
    secure: bool
    """The firmware protects its variables."""
    drives: Sequence[Drive]
    nics: Sequence[Nic] = ()
    tpm: bool = False
    spice: bool = True
    terminal: bool = True
    """Its standard streams are a terminal."""
    slots: int = 0
    """For devices that can be plugged; 0: those of its NICs and some more."""
    incoming: bool = False
    """It waits for a saved state, and stands still after that."""
    announced: bool = True
    """See ``machine.files``."""

    @property
    def ports(self) -> int:
        """How many slots there are."""
        return self.slots or slots_of(len(self.nics), [drive.bus for drive in self.drives])


def arguments(wanted: Machine) -> list[str]:
    """All but the program. The machine is paused until ``cont``."""
    return [
        *_base(wanted),
        *_memory(wanted),
        *_firmware(wanted),
        *_characters(wanted),
        "-chardev", "socket,id=files,fd=@files@",
        "-device", machine.files("isola", announced=wanted.announced),
        "-device", "virtio-rng-pci",
        "-device", f"virtio-balloon-pci,id={machine.BALLOON},free-page-reporting=on",
        *_screen(wanted),
        *_tpm(wanted),
        *machine.ports(wanted.ports),
        *(arg for number, nic in enumerate(wanted.nics) for arg in machine.cold(nic, number)),
        "-device", f"virtio-scsi-pci,id={BUS.split('.', maxsplit=1)[0]},num_queues={_queues(wanted)}",
        *(arg for number, drive in enumerate(placed(wanted)) for arg in _cold(drive, number)),
        *_seed(),
        *(("-incoming", "defer") if wanted.incoming else ()),
    ]  # fmt: skip


def node_of(name: str) -> str:
    """The node of a disk; names of nodes have less than 32 characters, and fewer kinds than names of devices."""
    return f"disk-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def device_of(name: str) -> str:
    """Its device, of which the name can be read again."""
    return _DEVICE + name.encode().hex()


def name_of_device(id: str) -> str | None:
    """The name of a disk; None for other devices."""
    try:
        return bytes.fromhex(id.removeprefix(_DEVICE)).decode() if id.startswith(_DEVICE) else None
    except ValueError:
        return None


def nodes(drive: Drive, file: str, backing: str = "") -> list[dict[str, object]]:
    """What QEMU has to make for a disk, in this order: files or devices at these paths, and how they are read.

    No format is guessed, and no other file is opened, whatever a disk's header says.
    """
    name, made = node_of(drive.name), []
    below: object = None
    if backing:
        made.append(_file(f"{name}-base-file", backing, read_only=True))
        made.append({"driver": "raw", "node-name": f"{name}-base", "file": f"{name}-base-file", "read-only": True})
        below = f"{name}-base"
    made.append(_file(f"{name}-file", file, read_only=drive.read_only, device=drive.device))
    top: dict[str, object] = {"driver": drive.format, "node-name": name, "file": f"{name}-file"}
    top |= {"read-only": drive.read_only, "discard": "unmap"}
    if drive.format == "qcow2":
        top["backing"] = below
    return [*made, top]


def names_of_nodes(name: str) -> tuple[str, ...]:
    """Those that a disk may have, in the order in which they can be removed."""
    node = node_of(name)
    return node, f"{node}-file", f"{node}-base", f"{node}-base-file"


def failing(name: str, size: int) -> list[dict[str, object]]:
    """What takes the place of a removed disk whose device stays: nothing but errors, in the same size."""
    node = failing_node(name)
    return [
        {"driver": "null-co", "node-name": f"{node}-null", "size": size, "read-zeroes": True},
        {"driver": "blkdebug", "node-name": node, "image": f"{node}-null", "inject-error": [{"event": "none"}]},
    ]


def failing_node(name: str) -> str:
    """The last of these nodes."""
    return f"gone-{node_of(name)[5:]}"


def slots_of(nics: int, buses: Sequence[str]) -> int:
    """How many a machine has that starts with these NICs and disks."""
    return machine.HOT_PLUG_PORTS + nics + sum(bus in SLOTTED for bus in buses)


def placed(wanted: Machine) -> list[Drive]:
    """Its disks; those with slots are in those after the NICs."""
    free = itertools.count(len(wanted.nics))
    return [
        replace(drive, place=next(free)) if drive.slotted and drive.place is None else drive for drive in wanted.drives
    ]


def disk_properties(drive: Drive) -> dict[str, object]:
    """Of its device. The guest sees the name as serial number, which virtio-blk shortens."""
    found: dict[str, object] = {
        "driver": SLOTTED.get(drive.bus) or ("scsi-cd" if drive.cdrom else "scsi-hd"),
        "id": device_of(drive.name),
        "bus": BUS,
        "drive": node_of(drive.name),
        "serial": drive.name[: 20 if drive.slotted else 36],
    }
    if drive.slotted:
        assert drive.place is not None
        found["bus"] = machine.port_name(drive.place)
    elif drive.place is not None:
        found["scsi-id"] = drive.place
    if drive.bus == VIRTIO_BLK:
        found["num-queues"] = 1
    return found | ({"bootindex": drive.order} if drive.order else {})


def added_memory(wanted: Machine) -> int:
    """Bytes that it can get beyond its RAM."""
    return max(0, wanted.most_memory - wanted.memory) // machine.BLOCK * machine.BLOCK


def _base(wanted: Machine) -> list[str]:
    emulated = f"tcg,thread=multi,tb-size={_TRANSLATED_CODE}"
    smm = "on" if wanted.secure else "off"
    flash = f",pflash0={CODE},pflash1={VARIABLES}" if wanted.code else ""
    return [
        *machine.beginning(wanted.id),
        "-S",
        "-uuid", _uuid(wanted.id),
        "-machine", f"q35,smm={smm},vmport=off,memory-backend=ram{flash}",
        "-accel", emulated if wanted.accelerator == "tcg" else wanted.accelerator,
        "-cpu", "max" if wanted.accelerator == "tcg" else "host",
        "-smp", f"cpus={wanted.cpus},maxcpus={wanted.most_cpus}",
    ]  # fmt: skip


def _queues(wanted: Machine) -> int:
    return min(wanted.most_cpus, _QUEUES)


def _uuid(id: str) -> str:
    """The same for each run of an instance."""
    text = hashlib.sha256(id.encode()).hexdigest()
    return "-".join((text[:8], text[8:12], f"8{text[13:16]}", f"8{text[17:20]}", text[20:32]))


def _memory(wanted: Machine) -> list[str]:
    ram, more = wanted.memory >> 20, added_memory(wanted)
    # Shared with the file server, which copies into it.
    base = ["-object", f"memory-backend-memfd,id=ram,size={ram}M,share=on"]
    if not more:
        return ["-m", f"{ram}M", *base]
    return [
        "-m", f"size={ram}M,maxmem={ram + ((more + machine.ROOM) >> 20)}M", *base,
        *machine.memory_to_add(more),
    ]  # fmt: skip


def _firmware(wanted: Machine) -> list[str]:
    if wanted.code is None:
        return []
    code = {"driver": "file", "node-name": CODE, "filename": str(wanted.code), "read-only": True, "locking": "off"}
    variables = _file(VARIABLES, "/dev/fdset/3", read_only=False)
    # Only code of the firmware itself, in its own mode of the processor, changes protected variables.
    secure = ["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]
    return [
        "-add-fd", f"set=3,fd=@{VARIABLES}@",
        "-blockdev", json.dumps(code),
        "-blockdev", json.dumps(variables),
        *(secure if wanted.secure else []),
    ]  # fmt: skip


def _characters(wanted: Machine) -> list[str]:
    """As of microVMs, but that the console is a serial port."""
    console = "serial,id=console" if wanted.terminal else "file,id=console,append=on"
    return [
        *machine.monitored(),
        "-add-fd", "set=1,fd=@output@",
        "-chardev", f"{console},path=/dev/fdset/1",
        "-serial", "chardev:console",
        "-chardev", f"socket,id={machine.AGENT},fd=@{machine.AGENT}@,server=on,wait=off",
        "-device", f"virtserialport,chardev={machine.AGENT},name=org.isola.agent,id={AGENT_PORT}",
    ]  # fmt: skip


def _screen(wanted: Machine) -> list[str]:
    """Viewers are connections that the control socket passes to QEMU; nothing listens."""
    spice = ["-spice", "disable-ticketing=on,disable-copy-paste=off"] if wanted.spice else []
    return ["-device", "VGA,id=screen", "-device", "virtio-tablet-pci", *spice, "-vnc", "none"]


def _tpm(wanted: Machine) -> list[str]:
    if not wanted.tpm:
        return []
    return [
        "-chardev", f"socket,id={TPM},fd=@{TPM}-wire@",
        "-tpmdev", f"emulator,id={TPM},chardev={TPM}",
        "-device", f"tpm-crb,tpmdev={TPM}",
    ]  # fmt: skip


def _seed() -> list[str]:
    """Not among the disks of the instance, and not to boot from."""
    return [
        "-add-fd", f"set=4,fd=@{SEED}@",
        "-blockdev", json.dumps(_file(f"{SEED}-file", "/dev/fdset/4", read_only=True)),
        "-blockdev", json.dumps({"driver": "raw", "node-name": SEED, "file": f"{SEED}-file", "read-only": True}),
        "-device", f"virtio-blk-pci,drive={SEED},serial={SEED_SERIAL},num-queues=1",
    ]  # fmt: skip


def _cold(drive: Drive, number: int) -> list[str]:
    """A set for its own descriptor, and one for that below it."""
    first = _FIRST_SET + 2 * number
    own = ["-add-fd", f"set={first},fd=@{drive.descriptor}@,opaque={node_of(drive.name)}"]
    below = ["-add-fd", f"set={first + 1},fd=@{drive.backing}@,opaque={node_of(drive.name)}"] if drive.backing else []
    made = nodes(drive, f"/dev/fdset/{first}", f"/dev/fdset/{first + 1}" if drive.backing else "")
    return [
        *own, *below,
        *(arg for node in made for arg in ("-blockdev", json.dumps(node))),
        "-device", json.dumps(disk_properties(drive)),
    ]  # fmt: skip


def _file(node: str, path: str, *, read_only: bool, device: bool = False) -> dict[str, object]:
    """Locks would be of this process alone, since its descriptors are those of the launcher."""
    return {
        "driver": "host_device" if device else "file",
        "node-name": node,
        "filename": path,
        "read-only": read_only,
        "locking": "off",
        "discard": "unmap",
    }
