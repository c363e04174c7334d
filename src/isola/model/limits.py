"""Resource limits and usage, in the kernel's units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What an instance may use; None means as much as the host has."""

    cpus: tuple[int, ...] | None = None
    """CPU numbers it may run on."""
    memory: int | None = None
    """Bytes."""
    processes: int | None = None
    by_default: bool = False
    """The number of processes is the default's, not the user's: a host that cannot limit them goes without."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a control group uses now. Bytes; nanoseconds."""

    cpu_ns: int = 0
    memory: int = 0
    memory_peak: int = 0
    swap: int = 0
    swap_peak: int = 0
    processes: int = 0
