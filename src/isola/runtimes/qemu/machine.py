"""Command lines of QEMU for guests whose kernel the host supplies, and of their kernels. Pure.

``@NAME@`` stands for the number of an open descriptor, see ``host.hypervisor``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CONTROL, AGENT = "control", "agent"
"""Names of the sockets on which QEMU listens."""
STATUS, KERNEL_LOG = "status", "kernel"
"""Names of ring buffers in QEMU: the last report of the agent, and the end of the kernel's log."""
BALLOON = "balloon"
ADDED_MEMORY, ADDED_RAM = "added", "added-ram"
"""Device and RAM of the memory that is added while the machine runs."""
BLOCK = 2 << 20
"""Bytes in which memory is added."""
ROOM = 1 << 30
"""Addresses for the alignment of added memory."""
BOARD = "q35"
"""Of microVMs: QEMU's machine ``microvm`` can get neither memory nor CPUs while it runs."""
_WITHOUT = "smm=off,vmport=off,sata=off,smbus=off,hpet=off,i8042=off,usb=off"
"""What the board would have beyond a microVM's devices."""
HOT_PLUG_PORTS = 4
"""NICs that can be added to a running machine."""
_PORT = "org.isola."
_STATUS_SIZE, _KERNEL_LOG_SIZE = 256, 16384
_LEAST_TRANSLATED, _MOST_TRANSLATED = 32, 96
"""MiB that emulated code may take; QEMU's default is a GiB."""
_TRANSLATED_SHARE = 4
"""One part in so many of the RAM: Debian's system fills 32 MiB twenty times while it starts, each time for nothing."""
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Nic:
    """A NIC that is there from the start."""

    link: str
    mac: str
    descriptor: str
    """Name of that of its tap."""
    slot: int | None = None
    """None: that of its place among the NICs."""
    order: int = 0
    """Place among the devices to boot from, from 1; 0: not booted from."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A microVM."""

    id: str
    kernel: Path
    initramfs: Path
    accelerator: str
    """``kvm`` or ``tcg``."""
    memory: int
    """Bytes of RAM, a multiple of a MiB."""
    cpus: int = 1
    most_memory: int = 0
    """Up to which it can grow while it runs, in whole blocks beyond ``memory``; 0: not at all."""
    most_cpus: int = 0
    """The same for CPUs."""
    clock: int = 0
    """Frequency of the host's time stamp counter in kHz; 0: not known."""
    nics: Sequence[Nic] = ()
    terminal: bool = True
    """Its standard streams are a terminal."""
    slots: int = 0
    """For devices that can be plugged; 0: those of its NICs and some more."""
    incoming: bool = False
    """It waits for a saved state, and stands still after that."""
    announced: bool = True
    """See ``files``; states of earlier versions do without."""

    @property
    def ports(self) -> int:
        """How many slots there are."""
        return self.slots or HOT_PLUG_PORTS + len(self.nics)


def arguments(machine: Machine) -> list[str]:
    """All but the program."""
    return [
        *_base(machine),
        *_added(machine),
        "-kernel", str(machine.kernel),
        "-initrd", str(machine.initramfs),
        "-append", kernel_arguments(machine),
        *_characters(machine),
        "-chardev", "socket,id=files,fd=@files@",
        "-device", files("root", announced=machine.announced),
        "-device", "virtio-rng-pci",
        "-device", f"virtio-balloon-pci,id={BALLOON},free-page-reporting=on",
        *ports(machine.ports),
        *(arg for number, nic in enumerate(machine.nics) for arg in cold(nic, number)),
        *(("-incoming", "defer", "-S") if machine.incoming else ()),
    ]  # fmt: skip


def trial(machine: Machine) -> list[str]:
    """A machine without devices; its kernel ends it, because it finds no program, and says so on standard output."""
    return [
        *_base(machine),
        "-kernel", str(machine.kernel),
        "-append", f"{kernel_arguments(machine)} loglevel=1",
        "-chardev", "stdio,id=log,signal=off", "-serial", "chardev:log",
        "-no-reboot",
    ]  # fmt: skip


TRIAL_SAYS = b"VFS: Unable to mount root fs"
"""What a kernel without a root says last, when all else has worked."""


def kernel_arguments(machine: Machine) -> str:
    """Nothing of the instance, so that a booted guest can become any one."""
    # Links have the names of the configuration: udev would wait for ever to rename one that is up.
    # Added memory has nothing that could not be moved, so that it can be given back.
    # Room for memory above 4 GiB is no reason for 64 MiB of buffers below: virtio's devices reach all of it.
    found = ["console=ttyS0", "quiet", "panic=-1", "net.ifnames=0"]
    found += ["memhp_default_state=online_movable", "swiotlb=noforce"]
    # One serial line; slots are those of ACPI; ciphers are not tested at each start.
    found += ["8250.nr_uarts=1", "pcie_ports=compat", "cryptomgr.notests"]
    # On a busy host ticks come late, which a kernel that counts them at its start takes for a broken timer, and panics.
    found += ["no_timer_check"]
    if machine.accelerator == "tcg" and machine.clock:
        # An emulated timer is too coarse to measure the counter, which is the host's.
        found += [f"tsc_early_khz={machine.clock}", f"lpj={machine.clock * 4}"]
    return " ".join(found)


def files(tag: str, *, announced: bool) -> str:
    """The device of the file server.

    When a machine goes on, virtiofsd discards QEMU's announcement of requests that wait since before. ``announced``:
    the guest announces each new one, also if others wait, so that it reaches the server with all before it.
    """
    return f"vhost-user-fs-pci,chardev=files,tag={tag}" + (",event_idx=off" if announced else "")


def nic_properties(nic: str, mac: str) -> dict[str, object]:
    """Of its device, by the name of the tap."""
    return {"driver": "virtio-net-pci", "id": f"nic-{name_of(nic)}", "netdev": f"tap-{name_of(nic)}", "mac": mac}


def name_of(link: str) -> str:
    """A link's name as a part of identifiers, which allow fewer characters."""
    return link if _PLAIN.fullmatch(link) else link.encode().hex()


def port_name(number: int) -> str:
    """Of the slot with this number, from 0."""
    return f"port{number}"


def beginning(id: str) -> list[str]:
    """Of every machine: nothing that is not asked for."""
    return [
        "-name", f"guest={id},process=isola-{id[:9]}",
        "-nodefaults", "-no-user-config", "-display", "none",
        "-sandbox", _SANDBOX,
    ]  # fmt: skip


def _base(machine: Machine) -> list[str]:
    translated = min(max(machine.memory // _TRANSLATED_SHARE >> 20, _LEAST_TRANSLATED), _MOST_TRANSLATED)
    emulated = f"tcg,thread=multi,tb-size={translated}"
    return [
        *beginning(machine.id),
        "-machine", f"{BOARD},{_WITHOUT},memory-backend=ram",
        "-bios", "qboot.rom",
        "-accel", emulated if machine.accelerator == "tcg" else machine.accelerator,
        "-cpu", "max" if machine.accelerator == "tcg" else "host",
        "-smp", f"cpus={machine.cpus},maxcpus={max(machine.cpus, machine.most_cpus)}",
        "-m", _memory(machine),
        # Shared with the server of the root, which copies into it.
        "-object", f"memory-backend-memfd,id=ram,size={machine.memory >> 20}M,share=on",
    ]  # fmt: skip


def _memory(machine: Machine) -> str:
    size = f"size={machine.memory >> 20}M"
    return f"{size},maxmem={(machine.most_memory + ROOM) >> 20}M" if added_memory(machine) else size


def _added(machine: Machine) -> list[str]:
    more = added_memory(machine)
    return memory_to_add(more) if more else []


def added_memory(machine: Machine) -> int:
    """Bytes that it can get beyond its RAM."""
    return max(0, machine.most_memory - machine.memory) // BLOCK * BLOCK


def memory_to_add(size: int) -> list[str]:
    """A device that has none of it yet. Shared with the file server; pages that are not used are not there."""
    return [
        "-object", f"memory-backend-memfd,id={ADDED_RAM},size={size >> 20}M,share=on,reserve=off",
        "-device", f"virtio-mem-pci,id={ADDED_MEMORY},memdev={ADDED_RAM},block-size={BLOCK},requested-size=0",
    ]  # fmt: skip


def _characters(machine: Machine) -> list[str]:
    """Its log, the agent, the control socket."""
    return [
        *monitored(),
        "-serial", f"chardev:{KERNEL_LOG}",
        "-chardev", f"socket,id={AGENT},fd=@{AGENT}@,server=on,wait=off",
        "-device", f"virtserialport,chardev={AGENT},name={_PORT}agent",
        *(_terminal() if machine.terminal else _pipes()),
    ]  # fmt: skip


def monitored() -> list[str]:
    """The control socket, and what is kept until it is asked for. The machine stays at its end, until it was read."""
    return [
        "-action", "reboot=shutdown,shutdown=pause",
        "-chardev", f"socket,id={CONTROL},fd=@{CONTROL}@,server=on,wait=off",
        "-mon", f"chardev={CONTROL},mode=control",
        "-chardev", f"ringbuf,id={KERNEL_LOG},size={_KERNEL_LOG_SIZE}",
        "-device", "virtio-serial-pci,max_ports=8",
        "-chardev", f"ringbuf,id={STATUS},size={_STATUS_SIZE}",
        "-device", f"virtserialport,chardev={STATUS},name={_PORT}status",
    ]  # fmt: skip


def _terminal() -> list[str]:
    """Not a console of the guest's kernel, whose output QEMU drops when it is not read in time.

    Not QEMU's standard streams, which would turn each line feed into two characters once more.
    """
    return [
        "-add-fd", "set=1,fd=@output@", "-chardev", "serial,id=console,path=/dev/fdset/1",
        "-device", f"virtserialport,chardev=console,name={_PORT}console",
    ]  # fmt: skip


def _pipes() -> list[str]:
    """Appended to, because QEMU truncates other files, which a pipe refuses."""
    return [
        "-chardev", "stdio,id=input,signal=off",
        "-device", f"virtserialport,chardev=input,name={_PORT}stdin",
        "-add-fd", "set=1,fd=@output@", "-chardev", "file,id=output,path=/dev/fdset/1,append=on",
        "-device", f"virtserialport,chardev=output,name={_PORT}stdout",
        "-add-fd", "set=2,fd=@errors@", "-chardev", "file,id=errors,path=/dev/fdset/2,append=on",
        "-device", f"virtserialport,chardev=errors,name={_PORT}stderr",
    ]  # fmt: skip


def ports(count: int) -> list[str]:
    """Slots for NICs."""
    return [
        arg
        for number in range(count)
        for arg in ("-device", f"pcie-root-port,id={port_name(number)},chassis={number + 1},slot={number + 1}")
    ]


def cold(nic: Nic, number: int) -> list[str]:
    """A NIC that is there from the start; ``number`` is its place among them."""
    device = {**nic_properties(nic.link, nic.mac), "bus": port_name(_slot(nic, number)), "romfile": ""}
    device |= {"bootindex": nic.order} if nic.order else {}
    return [
        "-netdev", f"tap,id={device['netdev']},fd=@{nic.descriptor}@",
        "-device", _joined(device),
    ]  # fmt: skip


def _slot(nic: Nic, number: int) -> int:
    return number if nic.slot is None else nic.slot


def _joined(properties: Mapping[str, object]) -> str:
    return ",".join(str(value) if key == "driver" else f"{key}={value}" for key, value in properties.items())
