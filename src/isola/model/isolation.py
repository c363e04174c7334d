"""The five kinds of isolation, from the thinnest wall to the thickest, and which of them can stand for another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CONTAINER, VIRTUAL_MACHINE = "container", "virtual-machine"
"""Types of instances in LXD's API: with the root of an image for containers, or with disks of their own."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """One kind."""

    name: str
    type: str
    """As LXD's API calls its instances."""
    separates: str
    """What is between the instance and the host."""
    protects: str
    """What an attacker inside cannot reach, and by which flaw it could."""


_ALL = (
    Isolation(
        "container",
        CONTAINER,
        "namespaces, control groups and a user namespace of the host's kernel",
        "the host's files, processes and devices; a flaw of the host's kernel would be a way out",
    ),
    Isolation(
        "sandbox",
        CONTAINER,
        "a kernel in user space, which answers its system calls",
        "the host's files, processes, devices and kernel; a flaw of both kernels would be a way out",
    ),
    Isolation(
        "microvm",
        CONTAINER,
        "a kernel of its own on a virtual machine with few devices",
        "the host's files, processes, devices and kernel; a flaw of the hypervisor would be a way out",
    ),
    Isolation(
        "vm",
        VIRTUAL_MACHINE,
        "firmware, a kernel and disks of its own on a complete virtual machine",
        "the host's files, processes, devices and kernel; a flaw of the hypervisor would be a way out",
    ),
    Isolation(
        "unikernel",
        VIRTUAL_MACHINE,
        "one program that is its own kernel, on a virtual machine",
        "the host's files, processes, devices and kernel; a flaw of the hypervisor would be a way out",
    ),
)
ISOLATIONS: Mapping[str, Isolation] = {each.name: each for each in _ALL}
_ORDER = tuple(ISOLATIONS)
_MACHINES = frozenset({"microvm", "vm", "unikernel"})
_NO_STANDBY = "unikernel"
"""Its images are no others', and it runs no others'."""


def has_machine(isolation: str) -> bool:
    """Whether guests have a virtual machine of their own, to which block devices can be attached."""
    return isolation in _MACHINES


def type_of(isolation: str) -> str:
    """LXD's type of instances with this isolation; of one that is not known here, a container."""
    return ISOLATIONS[isolation].type if isolation in ISOLATIONS else CONTAINER


def nearest(wanted: str, offered: Iterable[str]) -> str | None:
    """The offered one whose wall is nearest to the wanted one; of two, the thicker. None: there is none."""
    if wanted not in _ORDER or wanted == _NO_STANDBY:
        return None
    place = _ORDER.index(wanted)
    fitting = [each for each in offered if each in _ORDER and each not in (wanted, _NO_STANDBY)]
    return min(fitting, key=lambda each: (abs(_ORDER.index(each) - place), -_ORDER.index(each)), default=None)
