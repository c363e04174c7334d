"""What a client wants of a log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from isola.errors import InvalidInput

_LAST = 253_402_300_799
"""The last second of the year 9999, since 1970."""
BILLION = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines of a log, and how. Times are nanoseconds since 1970."""

    stdout: bool = True
    stderr: bool = True
    since: int | None = None
    until: int | None = None
    tail: int | None = None
    """The last lines, before all else is chosen; None: all."""
    timestamps: bool = False
    """Each line begins with the time at which it was written: ``2026-01-31T12:00:00.123456789Z``."""
    details: str = ""
    """Text with which each line begins, after its time."""
    follow: bool = False
    """Go on until the run ends."""


def log_time(nanoseconds: int) -> str:
    """As logs have it, without the zone: ``2026-01-31T12:00:00.123456789``. Raises InvalidInput."""
    seconds, rest = divmod(nanoseconds, BILLION)
    if not 0 <= seconds <= _LAST:
        raise InvalidInput("The time is not between 1970 and 9999", field="since")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}"
