"""Whether the program of an instance works, as its health check finds out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

KEPT = 5
"""How many results are remembered."""
LONGEST_OUTPUT = 4096
"""Bytes of the output of a check that are remembered."""


class HealthStatus(StrEnum):
    """As health checks have found it."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class HealthResult:
    """One check."""

    start: datetime
    end: datetime
    exit_status: int
    """-1: it did not end in time, or could not be started."""
    output: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Of a run."""

    status: HealthStatus = HealthStatus.STARTING
    failing: int = 0
    """Checks that have failed since the last success."""
    log: tuple[HealthResult, ...] = ()
    """The last ones, the latest at the end."""
