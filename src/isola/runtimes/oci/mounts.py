"""What is mounted over an instance's root, as OCI mount entries. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

Mount = dict[str, object]

_PROC = ["nosuid", "noexec", "nodev"]
_CPUS = "sys/devices/system/cpu/online"

LXCFS_FILES = (
    "proc/cpuinfo", "proc/diskstats", "proc/meminfo", "proc/slabinfo", "proc/stat", "proc/swaps",
    "proc/uptime", _CPUS,
)  # fmt: skip
"""Files of lxcfs that show an instance its own limits instead of the host's size.

Not its ``loadavg``: the last process number it shows is the host's, with and without its option ``-l``; the kernel's
own file shows the instance's.
"""

LXCFS_DIRECTORIES = tuple(sorted({PurePath(name).parent for name in LXCFS_FILES}))
"""Where they are."""

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
"""Paths that tell of the host, or reach its devices."""

READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger")
READ_ONLY_FOR_APPLICATIONS = (*READ_ONLY, "/proc/sys")
"""A distribution sets its own network's sysctls: the kernel guards the rest of /proc/sys by owner."""


def mounts(
    *,
    system: bool,
    tmpfs: int = 0,
    terminals: int = 0,
    lxcfs: Path | None = None,
    lxcfs_files: Sequence[str] = (),
) -> list[Mount]:
    """The mount table in the order of mounting; ``tmpfs`` is the room of each in bytes, 0 what the kernel gives."""
    room = _room(tmpfs)
    table = [*_kernel(system), *_devices(system, room, terminals)]
    if system:
        # systemd wants /run empty at boot and writable early; it would mount a tmpfs itself, and warn.
        table.append(_tmpfs("/run", "mode=0755", "nosuid", "nodev", *room))
        table.append(_tmpfs("/run/lock", "mode=1777", "nosuid", "nodev", "noexec", "size=5m"))
    if lxcfs is not None:
        table += [_bind(lxcfs / name, f"/{name}") for name in LXCFS_FILES if name in lxcfs_files]
    return table


def _kernel(system: bool) -> list[Mount]:
    # Type cgroup2 and not cgroup: in its own cgroup namespace an instance sees its own group whichever hierarchies the
    # host has, where engines would build the host's mixture of hierarchies that no systemd accepts any more.
    access = "rw" if system else "ro"
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": _PROC},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_PROC, "ro"]},
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup2",
            "source": "cgroup2",
            "options": [*_PROC, "relatime", access],
        },
    ]


def _room(tmpfs: int) -> list[str]:
    # Inodes are memory too, a kilobyte each, which the kernel would grant for half of the host's pages.
    return [f"size={tmpfs}", f"nr_inodes={max(tmpfs // 16384, 16384)}"] if tmpfs else []


def _devices(system: bool, room: list[str], terminals: int) -> list[Mount]:
    shared_memory = ["mode=1777", "nosuid", "nodev", *([] if system else ["noexec"]), *room]
    most = [f"max={terminals}"] if terminals else []
    return [
        _tmpfs("/dev", "mode=0755", "nosuid", "strictatime", "size=512k"),
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", *most],
        },
        _tmpfs("/dev/shm", *shared_memory),
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    ]


def _tmpfs(destination: str, *options: str) -> Mount:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def _bind(source: Path, destination: str) -> Mount:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["bind", "nosuid", "nodev"]}
