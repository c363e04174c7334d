"""What an instance uses, in the kernel's detail. Bytes; nanoseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from isola.model.instance import InterfaceState


@dataclass(frozen=True, slots=True)
class DiskIo:
    """Of one block device since the start."""

    major: int
    minor: int
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True, slots=True)
class GroupStats:
    """Of a control group."""

    cpu_ns: int = 0
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()
    """Empty where the kernel does not tell (cgroup v2)."""
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0
    memory: int = 0
    memory_peak: int = 0
    memory_limit: int = 0
    """0: none."""
    memory_failures: int = 0
    """How many times the limit was reached."""
    memory_stats: Mapping[str, int] = field(default_factory=dict)
    """As in ``memory.stat``."""
    processes: int = 0
    processes_limit: int = 0
    """0: none."""
    io: tuple[DiskIo, ...] = ()

    @property
    def memory_used(self) -> int:
        """Without the file cache that the kernel can drop at once."""
        cache = self.memory_stats.get("total_inactive_file", self.memory_stats.get("inactive_file", 0))
        return max(0, self.memory - cache)


@dataclass(frozen=True, slots=True)
class Stats:
    """Of an instance, and of its host where a share is to be computed."""

    at: datetime
    group: GroupStats
    network: tuple[InterfaceState, ...] = ()
    """Without the loopback."""
    host_cpu_ns: int = 0
    """CPU time of the whole host since its boot."""
    host_cpus: int = 1
    host_memory: int = 0


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """Processes as ``ps`` shows them."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
