"""What has been seen of a workload: numbers and names of the kernel. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recorded:
    """What has been seen so far."""

    calls: frozenset[int] = frozenset()
    """Numbers of system calls."""
    calls_of_32_bit: bool = False
    capabilities: frozenset[int] = frozenset()
    """Numbers of those that made a difference."""
    opened: frozenset[str] = frozenset()
    """Directories in its root of whose files some were opened."""
    listens: frozenset[str] | None = None
    """Ports to which it was bound, ``tcp/80``; None: this host cannot tell."""
    connects: frozenset[str] | None = None
    """Ports of others to which it has connected or sent."""
    missed: tuple[str, ...] = ()
    """What could not be recorded."""
