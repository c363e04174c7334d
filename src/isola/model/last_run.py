"""The last run of an instance, after its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

KILLED = 128 + 9
"""Exit status of a run that was killed."""
LOST = 255
"""Exit status of a run whose end is unknown, because the host was rebooted."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    status: int
    """Exit status of its first process, or 128 + signal."""
    at: datetime
    oom_killed: bool = False
    """Whether the kernel has killed one of its processes because its memory was used up."""
    error: str = ""
    """Why its hypervisor has given it up; empty if it ended otherwise."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The run that ended last, or a start that failed after it."""

    exit_status: int = 0
    oom_killed: bool = False
    error: str = ""
    """Why its last start failed, or its hypervisor gave it up; else empty."""
    started_at: datetime | None = None
    """None if it has never run, and while it runs again."""
    finished_at: datetime | None = None
    restarts: int = 0
    """How many times in a row it was started again by its restart policy, including the present run."""


class Until(StrEnum):
    """What a client waits for."""

    NOT_RUNNING = "not-running"
    """At once if it does not run; otherwise as ``NEXT_EXIT``."""
    NEXT_EXIT = "next-exit"
    REMOVED = "removed"
