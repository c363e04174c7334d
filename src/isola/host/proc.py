"""What ``/proc`` says of a process."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int
    """Start time in clock ticks since boot, field 22 of ``/proc/PID/stat``."""


def identify(pid: int) -> ProcessRef | None:
    """The process that has this number now, or None (a zombie counts as gone)."""
    fields = _stat(pid)
    # A process whose first thread has ended looks like a zombie while its other threads run on.
    if not fields or (fields[0] in b"ZX" and int(fields[17]) <= 1):
        return None
    return ProcessRef(pid, int(fields[19]))


def start_time(pid: int) -> int:
    """Start time of a process or zombie, in clock ticks since boot; 0 when there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def group_lives(group: int) -> bool:
    """Whether a process of this process group still runs; looks through all processes. Zombies do not count."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and int(fields[2]) == group and fields[0] not in b"ZX":
                return True
    return False


def _stat(pid: int) -> list[bytes]:
    """``/proc/PID/stat`` from its third field, the state, on."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            raw = file.read(4096)
    except OSError:
        return []
    # The name in parentheses may hold anything, parentheses and blanks included.
    return raw[raw.rindex(b")") + 2 :].split()
