"""What a runtime is asked to run: pure values that can be written down, with no handle of the host's in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from isola.model.identity import IdRange
from isola.model.limits import Limits
from isola.model.network import Endpoint


class RootKind(Enum):
    """How a runtime is given the root file system."""

    DIRECTORY = "directory"
    """Mounted on the host; ids in it are shifted already."""
    SHARED = "shared"
    """A directory of the host's that the monitor serves to the guest (virtiofs); ids in it are the guest's."""
    BLOCK_DEVICE = "block"


@dataclass(frozen=True, slots=True)
class Root:
    """The root file system."""

    path: Path
    kind: RootKind = RootKind.DIRECTORY


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount below the root, made after those that every instance has, in the order given."""

    target: str
    """Absolute path inside; made where the root lacks it."""
    source: str = ""
    """Absolute path on the host, for kind ``bind``."""
    kind: str = "bind"
    """``bind``, or a file system that an instance may mount, such as ``tmpfs``."""
    read_only: bool = False
    recursive: bool = False
    propagation: str = "private"
    """``private``, ``slave`` or ``shared``, as in mount_namespaces(7)."""
    options: tuple[str, ...] = ()
    """More of them, such as ``size=64m``."""


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device of the host's that is to be seen, and may be used, inside."""

    path: str
    """Absolute path inside."""
    kind: str
    """``c`` or ``b``."""
    major: int
    minor: int
    mode: int = 0o660
    uid: int = 0
    """As seen inside."""
    gid: int = 0


@dataclass(frozen=True, slots=True)
class TapNic:
    """A NIC of a guest with a kernel of its own: its end on the host is a tap that is there already."""

    link: str
    """Name of the tap."""
    mac: str
    interface: str
    """What it shall be called inside."""
    mtu: int = 1500


class Shareable(Enum):
    """A namespace that an instance can share with another one instead of having its own."""

    PID = "pid"
    IPC = "ipc"
    UTS = "uts"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """All a runtime needs to run an instance."""

    id: str
    hostname: str
    root: Root
    command: tuple[str, ...]
    idmap: IdRange | None = None
    """Host ids that stand for those inside; None where the guest has a kernel of its own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = "0"
    """``uid`` or ``uid:gid`` or names as in the image's /etc/passwd."""
    system: bool = False
    """A distribution with its own init: writable cgroup, /run as tmpfs, a console."""
    stop_signal: int = 15
    """What asks the first process to end, where there is one that a signal can be sent to."""
    limits: Limits = field(default_factory=Limits)
    tmpfs: int = 0
    """Bytes that each tmpfs made for it may hold; 0: as the kernel likes."""
    terminals: int = 0
    """Most pseudo-terminals; 0: as many as the host has."""
    lxcfs: Path | None = None
    """Where lxcfs is mounted on the host, when it is."""
    network: Endpoint | None = None
    """What its NICs end in; None: a network namespace made for the run, with ``lo`` alone."""
    nics: tuple[TapNic, ...] = ()
    """Where they end in taps."""
    mounts: tuple[Mount, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Of its own namespaces, over those that every instance gets."""
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Resource (``nofile``) -> soft and hard limit, as in setrlimit(2); -1: none."""
    shares: Mapping[Shareable, str] = field(default_factory=dict)
    """Namespaces of other guests of this runtime, by their ids; they must share the network namespace as well."""
    terminal: bool = True
    """The first process has a terminal, the console; without one its output and its errors are kept apart."""
    stdin: bool = False
    """Without a terminal: its input is what attached clients write, until the first of them ends it; else empty."""


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
