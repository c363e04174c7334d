"""Mounts below an instance's root, as OCI mount entries. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

Mount = dict[str, object]

_PROC = ["nosuid", "noexec", "nodev"]
_CPUS = "sys/devices/system/cpu/online"

LXCFS_FILES = (
    "proc/cpuinfo", "proc/diskstats", "proc/meminfo", "proc/slabinfo", "proc/stat", "proc/swaps",
    "proc/uptime", _CPUS,
)  # fmt: skip
"""Files of lxcfs that show an instance's own limits instead of the host's resources.

``loadavg`` is not included: its last field is the host's last PID, with and without lxcfs's option ``-l``, whereas the
kernel's own file shows the instance's.
"""

LXCFS_DIRECTORIES = tuple(sorted({PurePath(name).parent for name in LXCFS_FILES}))
"""Their parent directories."""

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
"""Paths that reveal information of the host, or give access to its devices."""

READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger")
READ_ONLY_FOR_APPLICATIONS = (*READ_ONLY, "/proc/sys")
"""A system container can set sysctls of its own network; the kernel protects the rest of /proc/sys by ownership."""

# Inodes use a kilobyte of memory each, also those of empty files, which no size limits; by default the kernel permits
# one for every second page of the host's memory.
_LEAST_INODES = 16384
_INODES = f"nr_inodes={_LEAST_INODES}"


SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Outside:
    """What is the host's: the kernel mounts these file systems only in namespaces of one's own."""

    processes: bool = False
    network: bool = False
    """Then /sys is that of the host with all mounts below it, which cannot be left out, but are all read-only."""
    memory: Path | None = None
    """Where the host's /dev/shm is."""
    groups: Path | None = None
    """Where its control groups are, without other mounts below: all are seen, and none can be changed."""


_NOTHING = Outside()


def mounts(
    *,
    system: bool,
    outside: Outside = _NOTHING,
    privileged: bool = False,
    tmpfs: int = 0,
    shared_memory: int = 0,
    terminals: int = 0,
    lxcfs: Path | None = None,
    lxcfs_files: Sequence[str] = (),
) -> list[Mount]:
    """The mounts in the order of mounting; ``tmpfs`` is the size of each in bytes, 0 the kernel's default, and
    ``shared_memory`` that of /dev/shm, 0 the same.
    """
    room = _room(tmpfs)
    table = [*_kernel(outside, writable=privileged, groups=system or privileged)]
    table += _devices(system, _room(shared_memory) or room, terminals)
    if outside.memory is not None:
        kept = [mount for mount in table if mount["destination"] not in ("/dev/shm", "/dev/mqueue")]
        table = [*kept, _bind(outside.memory, "/dev/shm")]
    if system:
        # systemd needs /run empty and writable early at boot; otherwise it mounts a tmpfs itself, with a warning.
        table.append(_tmpfs("/run", "mode=0755", "nosuid", "nodev", *room))
        table.append(_tmpfs("/run/lock", "mode=1777", "nosuid", "nodev", "noexec", "size=5m", _INODES))
    if lxcfs is not None:
        table += [_bind(lxcfs / name, f"/{name}") for name in LXCFS_FILES if name in lxcfs_files]
    return table


def _kernel(outside: Outside, *, writable: bool, groups: bool) -> list[Mount]:
    # Type cgroup2 and not cgroup: in its own cgroup namespace an instance sees its own group whichever hierarchies the
    # host has, where engines would build the host's mixture of hierarchies that no systemd accepts any more.
    access = "rw" if groups else "ro"
    own: Mount = {
        "destination": "/sys/fs/cgroup",
        "type": "cgroup2",
        "source": "cgroup2",
        "options": [*_PROC, "relatime", access],
    }
    return [
        _pseudo("/proc", "proc", outside.processes, *_PROC),
        _pseudo("/sys", "sysfs", outside.network, *_PROC, "rw" if writable else "rro" if outside.network else "ro"),
        own if outside.groups is None else _shown(outside.groups, "/sys/fs/cgroup"),
    ]


def _pseudo(destination: str, kind: str, outside: bool, *options: str) -> Mount:
    if outside:
        options = ("rbind", "rslave", *options)
        return {"destination": destination, "type": "bind", "source": destination, "options": list(options)}
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def _shown(source: Path, destination: str) -> Mount:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["bind", *_PROC, "ro"]}


def _room(tmpfs: int) -> list[str]:
    return [f"size={tmpfs}", f"nr_inodes={max(tmpfs // 16384, _LEAST_INODES)}"] if tmpfs else []


def _devices(system: bool, room: list[str], terminals: int) -> list[Mount]:
    shared_memory = ["mode=1777", "nosuid", "nodev", *([] if system else ["noexec"]), *room]
    most = [f"max={terminals}"] if terminals else []
    return [
        _tmpfs("/dev", "mode=0755", "nosuid", "strictatime", "size=512k", _INODES),
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", *most],
        },
        _tmpfs("/dev/shm", *shared_memory) | {"source": "shm"},  # as other engines call it
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    ]


def _tmpfs(destination: str, *options: str) -> Mount:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def _bind(source: Path, destination: str) -> Mount:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["bind", "nosuid", "nodev"]}
