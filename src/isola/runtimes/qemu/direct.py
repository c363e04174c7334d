"""Command lines of QEMU for kernels of images, and the arguments that these kernels get. Pure.

``@NAME@`` stands for the number of an open descriptor, see ``host.hypervisor``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, ip_interface
from pathlib import Path

from isola.errors import InvalidInput
from isola.runtimes.qemu import vm_machine
from isola.runtimes.qemu.machine import CONTROL, KERNEL_LOG, STATUS, Nic, beginning, nic_properties
from isola.runtimes.qemu.vm_machine import Drive
from isola.runtimes.spec import RunSpec, TapNic

_LONGEST = 2048
"""Characters of all arguments together, as far as the boot protocols go."""
_MACHINES = {"q35": "q35,graphics=off", "pc": "pc,graphics=off", "microvm": "microvm,acpi=off,isa-serial=on,rtc=on"}
"""Without graphics, the firmware's own output, and that of kernels which print by it, is on the serial line."""
_EMULATED = "tcg,thread=multi,tb-size=32"
"""With little memory for translated code."""
_FIRST_SET = 10
"""Number of the first set of descriptors of disks; that before is of the console."""
_LONGEST_SERIAL = 20
"""Characters of the serial number of a virtio disk."""
_RESOLVER = "/etc/resolv.conf"
_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z0-9]+)(?:\.([0-9]{1,2}))?\}", re.ASCII)
_NAMESERVER = re.compile(r"^nameserver (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Direct:
    """A machine that starts a kernel of an image."""

    id: str
    kernel: Path
    initrd: Path | None
    machine: str
    """``q35``, ``pc`` or ``microvm``."""
    arguments: str
    accelerator: str
    """``kvm`` or ``tcg``."""
    memory: int
    """Bytes of RAM, a multiple of a MiB."""
    cpus: int = 1
    nics: Sequence[Nic] = ()
    terminal: bool = True
    """Its serial line is a terminal; otherwise its output alone is kept."""
    drives: Sequence[Drive] = ()
    incoming: bool = False
    """It waits for a saved state, and stands still after that."""


def arguments(machine: Direct) -> list[str]:
    """All but the program. The machine is paused until ``cont``."""
    kind = "device" if machine.machine == "microvm" else "pci"
    return [
        *beginning(machine.id),
        "-S", "-vga", "none",
        "-machine", _MACHINES[machine.machine],
        *(["-bios", "qboot.rom"] if machine.machine == "microvm" else []),
        "-accel", _EMULATED if machine.accelerator == "tcg" else machine.accelerator,
        "-cpu", "max" if machine.accelerator == "tcg" else "host",
        "-smp", str(machine.cpus),
        "-m", f"{machine.memory >> 20}M",
        "-kernel", str(machine.kernel),
        *(["-initrd", str(machine.initrd)] if machine.initrd is not None else []),
        *(["-append", machine.arguments] if machine.arguments else []),
        "-action", "reboot=shutdown,shutdown=pause",
        "-chardev", f"socket,id={CONTROL},fd=@{CONTROL}@,server=on,wait=off",
        "-mon", f"chardev={CONTROL},mode=control",
        # What agents of other guests have to say: nothing here.
        *(arg for name in (STATUS, KERNEL_LOG) for arg in ("-chardev", f"ringbuf,id={name},size=256")),
        *_serial(terminal=machine.terminal),
        "-device", f"virtio-rng-{kind}",
        *(arg for nic in machine.nics for arg in _nic(nic, kind)),
        *(arg for number, drive in enumerate(machine.drives) for arg in _disk(drive, kind, number)),
        *(("-incoming", "defer") if machine.incoming else ()),
    ]  # fmt: skip


def _serial(*, terminal: bool) -> list[str]:
    """Appended to, because QEMU truncates other files, which a pipe refuses."""
    kind, more = ("serial", "") if terminal else ("file", ",append=on")
    return [
        "-add-fd", "set=1,fd=@output@",
        "-chardev", f"{kind},id=console,path=/dev/fdset/1{more}",
        "-serial", "chardev:console",
    ]  # fmt: skip


def _nic(nic: Nic, kind: str) -> list[str]:
    """On the root bus, where it has the registers of old drivers, too."""
    device = nic_properties(nic.link, nic.mac) | {"driver": f"virtio-net-{kind}"}
    device |= {"romfile": ""} if kind == "pci" else {}
    joined = ",".join(str(value) if key == "driver" else f"{key}={value}" for key, value in device.items())
    return ["-netdev", f"tap,id={device['netdev']},fd=@{nic.descriptor}@", "-device", joined]


def _disk(drive: Drive, kind: str, number: int) -> list[str]:
    """On the root bus, too. The kernel sees the name as serial number."""
    first = _FIRST_SET + number
    device: dict[str, object] = {"driver": f"virtio-blk-{kind}", "id": vm_machine.device_of(drive.name)}
    device |= {"drive": vm_machine.node_of(drive.name), "serial": drive.name[:_LONGEST_SERIAL]}
    device |= {"bootindex": drive.order} if drive.order else {}
    return [
        "-add-fd", f"set={first},fd=@{drive.descriptor}@,opaque={vm_machine.node_of(drive.name)}",
        *(arg for node in vm_machine.nodes(drive, f"/dev/fdset/{first}") for arg in ("-blockdev", json.dumps(node))),
        "-device", json.dumps(device),
    ]  # fmt: skip


def text_of(spec: RunSpec) -> str:
    """The arguments of a kernel, with the values of placeholders such as ``{address}``. Raises InvalidInput.

    ``${...}`` and braces around anything else stay as they are: kernels have placeholders and JSON of their own.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] in _OF_INSTANCE and not found[2]:
            if not (text := _OF_INSTANCE[found[1]](spec)):
                raise _unknown(found[0], "it is not known")
            return text
        if (give := _OF_NIC.get(found[1])) is None:
            return found[0]
        number = int(found[2] or 0)
        if number >= len(spec.nics):
            raise _unknown(found[0], f"the instance has {len(spec.nics)} NICs")
        if not (text := give(spec.nics[number])):
            raise _unknown(found[0], f"it is not known for the NIC {spec.nics[number].interface!r}")
        return text

    text = " ".join(_PLACEHOLDER.sub(value, part) for part in spec.command)
    if len(text) > _LONGEST or any(ord(each) < ord(" ") for each in text):
        raise InvalidInput(
            f"The arguments of a kernel are one line of up to {_LONGEST} characters", field="program.arguments"
        )
    return text


def _unknown(placeholder: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"There is no value for {placeholder} in the arguments of the kernel: {why}",
        field="program.arguments",
        remedy="attach it to a managed network, or let the kernel ask by DHCP",
    )


def _interface(nic: TapNic, version: int) -> str:
    """Address with prefix length."""
    found = nic.inside.addresses if nic.inside is not None else ()
    return next((each for each in found if ip_interface(each).version == version), "")


def _address(nic: TapNic, version: int) -> str:
    return _interface(nic, version).partition("/")[0]


def _netmask(nic: TapNic) -> str:
    interface = _interface(nic, 4)
    return str(IPv4Interface(interface).netmask) if interface else ""


def _gateway(nic: TapNic, version: int) -> str:
    found = nic.inside.gateways if nic.inside is not None else ()
    return next((each for each in found if ip_interface(each).version == version), "")


def _nameserver(spec: RunSpec) -> str:
    found = _NAMESERVER.search(spec.files.get(_RESOLVER, ""))
    return found[1] if found is not None else ""


_OF_INSTANCE: Mapping[str, Callable[[RunSpec], str]] = {
    "hostname": lambda spec: spec.hostname,
    "nameserver": _nameserver,
}
_OF_NIC: Mapping[str, Callable[[TapNic], str]] = {
    "address": lambda nic: _address(nic, 4),
    "prefix": lambda nic: _interface(nic, 4).partition("/")[2],
    "netmask": _netmask,
    "gateway": lambda nic: _gateway(nic, 4),
    "address6": lambda nic: _address(nic, 6),
    "prefix6": lambda nic: _interface(nic, 6).partition("/")[2],
    "gateway6": lambda nic: _gateway(nic, 6),
    "mac": lambda nic: nic.mac,
}
