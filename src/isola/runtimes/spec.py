"""The specification of a run: pure values that can be stored, without handles of the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from isola.host.link_kinds import Inside
from isola.model.confinement import Confinement
from isola.model.disk import Disk
from isola.model.identity import IdRange
from isola.model.kernel import Kernel
from isola.model.limits import Limits
from isola.model.network import Endpoint, HostNetwork


class RootKind(Enum):
    """The form in which a runtime gets the root file system."""

    DIRECTORY = "directory"
    """Mounted on the host; files carry the ids of the instance's range."""
    SHARED = "shared"
    """The same directory, which a file server in the instance's user namespace shares with its guest (virtiofs)."""
    DISKS = "disks"
    """A mounted directory with files that contain its disks, among them the root's (``model.disk``)."""


@dataclass(frozen=True, slots=True)
class Root:
    """The root file system."""

    path: Path
    kind: RootKind = RootKind.DIRECTORY
    read_only: bool = False
    """From the start of the program on: devices may still create their mount points in it before that."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount below the root, in addition to those that every instance has, in the given order."""

    target: str
    """Absolute path inside; created if it does not exist."""
    source: str = ""
    """Absolute path on the host, for kind ``bind``."""
    kind: str = "bind"
    """``bind``, or a file system that an instance may mount, such as ``tmpfs``."""
    read_only: bool = False
    recursive: bool = False
    propagation: str = "private"
    """``private``, ``slave`` or ``shared``, as in mount_namespaces(7)."""
    options: tuple[str, ...] = ()
    """Further mount options, such as ``size=64m``."""


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device of the host that exists inside and can be used there."""

    path: str
    """Absolute path inside."""
    kind: str
    """``c`` or ``b``."""
    major: int
    minor: int
    mode: int = 0o660
    uid: int = 0
    """Owner inside."""
    gid: int = 0


@dataclass(frozen=True, slots=True)
class TapNic:
    """A NIC of a guest with its own kernel: its end on the host is an existing tap."""

    link: str
    """Name of the tap."""
    mac: str
    interface: str
    """Its name inside."""
    mtu: int = 1500
    inside: Inside | None = None
    """What is to be configured inside; None if the image does that itself. Names are in ``RunSpec.files``."""
    boot: int = 0
    """Firmware tries devices with higher numbers first; 0: after those that have one."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """What a machine with firmware starts with. Its variables and the TPM's state are kept beside its disks."""

    secure_boot: bool = True
    """Only signed boot loaders."""
    tpm: bool = False
    bios: bool = False
    """A BIOS in place of UEFI; there is no secure boot then, and no boot from NICs."""


class Shareable(Enum):
    """Namespaces that an instance can share with another one."""

    PID = "pid"
    IPC = "ipc"
    UTS = "uts"
    CGROUP = "cgroup"


@dataclass(frozen=True, slots=True)
class Log:
    """How its output is kept."""

    kept: bool = True
    size: int = 2 << 20
    """Size in bytes at which a new file is begun."""
    files: int = 1
    """How many there are at most, the present one included."""
    fresh: bool = True
    """A start begins a new log."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """All that a runtime needs to run an instance."""

    id: str
    hostname: str
    root: Root
    command: tuple[str, ...]
    idmap: IdRange | None = None
    """Host ids that stand for those inside, behind every wall; None in plans of older daemons for guests with a kernel
    of their own.
    """
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = "0"
    """``uid`` or ``uid:gid`` or names as in the image's /etc/passwd."""
    groups: tuple[str, ...] = ()
    """Further groups by number or by name, in addition to those of the user."""
    umask: int | None = None
    """None: the engine's default."""
    system: bool = False
    """A distribution with its own init: writable cgroup, /run as tmpfs, a console."""
    stop_signal: int = 15
    """Signal that requests the first process to end; only for guests to which signals can be sent."""
    limits: Limits = field(default_factory=Limits)
    tmpfs: int = 0
    """Size in bytes of each of its tmpfs; 0: the kernel's default."""
    shared_memory: int = 0
    """Size in bytes of /dev/shm; 0: as of each tmpfs."""
    terminals: int = 0
    """Maximum number of pseudo-terminals; 0: no limit."""
    lxcfs: Path | None = None
    """Mount point of lxcfs on the host; None: do not use it."""
    network: Endpoint | HostNetwork | None = None
    """The endpoint of its NICs, or the host's network; None: a namespace created for the run, with ``lo`` alone."""
    nics: tuple[TapNic, ...] = ()
    """NICs that are taps."""
    firmware: Firmware | None = None
    """None: a guest without firmware of its own."""
    host_stack: bool = False
    """Its packets pass the host's network stack in its namespace, even if its runtime has a stack of its own."""
    disks: tuple[Disk, ...] = ()
    """Of a guest with block devices of its own: first that of the root, then the others that it has at its start."""
    mounts: tuple[Mount, ...] = ()
    seed: Mapping[str, str] = field(default_factory=dict)
    """Path -> text on a disk that the guest gets beside its own, for cloud-init and for the agent."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Absolute path inside -> text of files that exist for the run alone, and hide those of the root."""
    late_files: tuple[str, ...] = ()
    """Those of them that a device would hide, which is mounted around them: they are mounted after it."""
    devices: tuple[DeviceNode, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Sysctls of its own namespaces, in addition to those that every instance gets."""
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Resource (``nofile``) -> soft and hard limit, as in setrlimit(2); -1: none."""
    shares: Mapping[Shareable, str] = field(default_factory=dict)
    """Namespaces to share -> id of another guest of this runtime. All of them and the network namespace belong to one
    user namespace, unless that is the host's.
    """
    log: Log = field(default_factory=Log)
    host_namespaces: tuple[Shareable, ...] = ()
    """Namespaces of the host that it uses."""
    terminal: bool = True
    """Whether the first process has a terminal, the console; without one, stdout and stderr are separate."""
    console: tuple[int, int] = (80, 25)
    """Columns and rows of the terminal of a container when its program starts."""
    stdin: bool = False
    """Without a terminal: its input is what attached clients write, until the first of them ends it; else empty."""
    stdin_once: bool = True
    """False: no client can end this input."""
    confinement: Confinement = field(default_factory=Confinement)
    kernel: Kernel | None = None
    """What is started in place of a program, for unikernels; ``command`` are its arguments."""
    warm: bool = False
    """Start from a kernel that has booted for another guest, if its runtime keeps such kernels."""
    oom_score_adj: int | None = None
    """As in ``/proc/PID/oom_score_adj``; None: as of the daemon's other instances."""


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A command inside a running instance."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str = "/"
    user: int = 0
    group: int = 0
    groups: tuple[int, ...] = ()
    terminal: bool = False
    width: int = 0
    height: int = 0
    capabilities: tuple[str, ...] | None = None
    """``CAP_...``, in place of those of the first process."""
