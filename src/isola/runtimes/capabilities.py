"""Features of runtimes, which callers check instead of a runtime's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from isola.errors import Unsupported
from isola.runtimes.spec import RootKind


class Capability(Enum):
    """Features that not all runtimes have."""

    EXEC = "exec"
    FILES = "files"
    """Access to its files while it runs."""
    CONSOLE = "console"
    DISPLAY = "display"
    """A screen, to which viewers connect."""
    PLUGGED_NICS = "plugged NICs"
    """NICs that are added while it runs."""
    DISKS = "disks"
    """Block devices of its own, which it has from its start on."""
    PLUGGED_DISKS = "plugged disks"
    """Disks that are added while it runs."""
    FIRMWARE = "firmware"
    """UEFI of its own, with secure boot, an order of boot devices and a TPM."""
    SIGNAL = "signal"
    """Sending signals to its first process."""
    PAUSE = "pause"
    LIVE_LIMITS = "live limits"
    CHECKPOINT = "checkpoint"
    MOUNTS = "mounts"
    """Files and directories of the host in it, also added while it runs."""
    DEVICES = "devices"
    """Devices of the host in it."""
    SOCKETS = "sockets"
    """Sockets of the host that lead to a Unix socket or the loopback in it, and sockets in it that lead out."""
    SHARED_NAMESPACES = "shared namespaces"
    """Namespaces of another instance."""
    PRIVILEGES = "privileges"
    """Rights over the host: its namespaces, all its devices, no user namespace."""
    CONFINEMENT = "confinement"
    """Capabilities that its processes have or lack."""
    FILTERS = "filters"
    """System calls and paths of the kernel that its processes lack, privileges of files."""
    UMASK = "umask"
    SYSTEM_CALLS = "system calls"
    """A list of the system calls that its programs may make, and paths that alone are writable."""
    PORTS = "ports"
    """Ports to which its programs alone may bind and connect."""
    SYSCTLS = "sysctls"
    ULIMITS = "ulimits"
    PROCESS_LIMIT = "process limit"
    REBOOT = "reboot"
    """Restarting itself from inside."""


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a capability is missing, and what to do instead."""

    reason: str
    remedy: str = ""


NO_SCREEN = Lack("It has no screen", remedy="use its console")


NO_FIRMWARE = Lack("It has no firmware of its own")


_NO_DISKS = Lack(
    "It has no block devices of its own, only directories of the host",
    remedy="use a volume of content type filesystem with a path, or isolation 'vm'",
)
NO_DISKS: Mapping[Capability, Lack] = {Capability.DISKS: _NO_DISKS, Capability.PLUGGED_DISKS: _NO_DISKS}


@dataclass(frozen=True, slots=True)
class Machine:
    """What a guest has where its configuration says nothing."""

    memory: int
    """Bytes."""
    cpus: int = 1


@dataclass(frozen=True, slots=True)
class RuntimeCapabilities:
    """Features of all guests of a runtime."""

    isolations: frozenset[str]
    """Isolation levels that it offers: ``container``, ``sandbox``, ..."""
    shares_kernel: bool = True
    """NICs are in a network namespace; otherwise they are taps, and the guest has no processes on the host."""
    root: RootKind = RootKind.DIRECTORY
    """The required form of its root."""
    machine: Machine | None = None
    """The size of a guest that has memory and CPUs of its own; None: it uses those of the host."""
    unrecordable: Lack | None = None
    """Why the host does not see the system calls of its programs."""
    lacks: Mapping[Capability, Lack] = field(default_factory=dict)

    def has(self, capability: Capability) -> bool:
        """Whether its guests have the feature."""
        return capability not in self.lacks

    def require(self, capability: Capability) -> None:
        """Raises Unsupported with the reason."""
        if (lack := self.lacks.get(capability)) is not None:
            raise Unsupported(lack.reason, remedy=lack.remedy)
