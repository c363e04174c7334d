"""Times and spans as Docker writes and reads them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from isola.errors import InvalidInput

NEVER = "0001-01-01T00:00:00Z"
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SPAN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)")
_STAMP = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?", re.ASCII)
_BILLION = 10**9


def rfc3339(moment: datetime | None, *, seconds: bool = False) -> str:
    """``2026-01-31T12:00:00.123456Z``, or in whole seconds; year 1 for None."""
    if moment is None:
        return NEVER
    return moment.astimezone(UTC).isoformat(timespec="seconds" if seconds else "auto").replace("+00:00", "Z")


def nanoseconds(moment: datetime) -> int:
    """Since 1970."""
    return int(moment.timestamp()) * _BILLION + moment.microsecond * 1000


def parse_time(text: str, field: str, now: datetime) -> int | None:
    """Nanoseconds since 1970 of a Unix time, a time in RFC 3339 or a span before now; None if empty or 0."""
    if not text or text == "0":
        return None
    if found := _STAMP.fullmatch(text):
        return int(found[1]) * _BILLION + int((found[2] or "").ljust(9, "0"))
    if _SPAN.match(text):
        return nanoseconds(now) - span(text, field)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f'invalid value for "{field}": failed to parse value as time or duration: {text[:80]!r}', field=field
        ) from None
    return nanoseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def span(text: str, field: str) -> int:
    """Nanoseconds of Go's ``1h30m``. Raises InvalidInput."""
    parts = _SPAN.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidInput(f'invalid value for "{field}": invalid duration {text[:80]!r}', field=field)
    return sum(int(float(number) * _UNITS[unit]) for number, unit in parts)


def roughly(seconds: float) -> str:
    """A span as people say it: ``About an hour``, ``3 days``."""
    whole = int(seconds)
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for most, unit, name in ((24 * 14, 24, "days"), (24 * 60, 168, "weeks"), (24 * 730, 720, "months")):
        if hours < most:
            return f"{hours // unit} {name}"
    return f"{hours // 8760} years"
