"""When snapshots are taken and when they expire: cron expressions, periods, and patterns of names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@annually": "0 0 1 1 *",
    "@yearly": "0 0 1 1 *",
}
_STARTUP = "@startup"
_LONGEST_SCHEDULE = 4096
"""Characters: a schedule is read every minute."""
_NO_TIMES = ("@never", _STARTUP)
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(\*|[a-z0-9]+(?:-[a-z0-9]+)?)(?:/([0-9]{1,3}))?", re.ASCII)
_PERIOD = re.compile(r"([0-9]{1,6})([MHdwmy])", re.ASCII)
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Cron:
    """One cron expression: the values that each of its five fields admits."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either: bool
    """Day of month and day of week are both restricted: then one that fits is enough, as cron has it."""

    def matches(self, moment: datetime) -> bool:
        """Whether it is due in the minute of ``moment``."""
        if moment.minute not in self.minutes or moment.hour not in self.hours or moment.month not in self.months:
            return False
        day, weekday = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        return day or weekday if self.either else day and weekday


def parse_schedule(text: str) -> Sequence[Cron]:
    """Cron expressions, and aliases such as ``@daily``, separated by a comma and a space. Raises ValueError."""
    if len(text) > _LONGEST_SCHEDULE:
        raise ValueError(f"at most {_LONGEST_SCHEDULE} characters are expected")
    entries = dict.fromkeys(_entries(text))
    if unknown := [name for name in entries if name.startswith("@") and name not in (*ALIASES, *_NO_TIMES)]:
        raise ValueError(f"{unknown[0][:20]!r} is not one of {', '.join(ALIASES)}")
    return tuple(_cron(ALIASES.get(entry, entry)) for entry in entries if entry not in _NO_TIMES)


def at_startup(text: str) -> bool:
    """Whether a schedule has ``@startup``: each start is an occasion."""
    return _STARTUP in _entries(text)


def _entries(text: str) -> Iterator[str]:
    for part in re.split(r",\s+", text.strip().lower()):
        yield from (name.strip() for name in (part.split(",") if part.startswith("@") else [part]) if name.strip())


def parse_period(text: str) -> timedelta | None:
    """``2w 3d``: minutes ``M``, hours ``H``, days, weeks, months (30 days), years (365 days). Raises ValueError."""
    if not text.strip():
        return None
    if len(text) > _LONGEST:
        raise ValueError(f"at most {_LONGEST} characters are expected")
    total, units = timedelta(), {"M": 60, "H": 3600, "d": 86400, "w": 604800, "m": 30 * 86400, "y": 365 * 86400}
    for part in text.split():
        match = _PERIOD.fullmatch(part)
        if match is None:
            raise ValueError("a period such as 1M 2H 3d 4w 5m 6y is expected")
        total += timedelta(seconds=int(match[1]) * units[match[2]])
    if total > timedelta(days=36500):
        raise ValueError("the period is too long")
    return total


def parse_pattern(text: str) -> str:
    """A name with at most one ``%d`` and ``{{ creation_date }}``, for snapshots that are given none. ValueError."""
    if "%" in text.replace("%d", "", 1):
        raise ValueError("only one %d, for a number, is expected")
    rest = _DATE.sub("", text).replace("%d", "")
    if re.search(r"[^A-Za-z0-9._-]", rest) or len(text) > _LONGEST:
        raise ValueError("letters, digits, dots, hyphens, %d and {{ creation_date }} are expected")
    return text


_DATE = re.compile(r"""\{\{\s*creation_date(?:\s*\|\s*date:\s*(['"])([A-Za-z0-9:._ -]{1,40})\1)?\s*\}\}""")
_LAYOUT = (
    ("2006", "%Y"), ("01", "%m"), ("02", "%d"), ("15", "%H"), ("04", "%M"), ("05", "%S"), ("Jan", "%b"), ("06", "%y"),
)  # fmt: skip
"""Go's reference time, in which clients write the layout of dates."""


def next_name(pattern: str, taken: Sequence[str], now: datetime) -> str:
    """The name of the next snapshot: the date filled in, and ``%d`` the number after the highest that is taken.

    Without ``%d`` a number is added where the name is taken.
    """
    named = _DATE.sub(lambda match: _date(match[2], now), pattern or "snap%d")
    if "%d" in named:
        before, _, after = named.partition("%d")
        numbers = re.compile(re.escape(before) + r"([0-9]{1,9})" + re.escape(after), re.ASCII)
        used = [int(match[1]) for name in taken if (match := numbers.fullmatch(name))]
        return f"{before}{max(used, default=-1) + 1}{after}"
    if named not in taken:
        return named
    numbers = re.compile(re.escape(named) + r"-([0-9]{1,9})", re.ASCII)
    used = [int(match[1]) for name in taken if (match := numbers.fullmatch(name))]
    return f"{named}-{max(used, default=-1) + 1}"


def _date(layout: str | None, now: datetime) -> str:
    if layout is None:
        return now.strftime("%Y-%m-%d_%H-%M-%S")
    for letter, code in _LAYOUT:
        layout = layout.replace(letter, code)
    return re.sub(r"[^A-Za-z0-9._-]", "-", now.strftime(layout))


def _cron(text: str) -> Cron:
    fields = text.split()
    if len(fields) != 5:
        raise ValueError("a cron expression of five fields, or an alias such as @daily, is expected")
    minutes, hours, days, months, weekdays = (
        _field(field, low, high, names)
        for field, (low, high), names in zip(fields, _RANGES, ((), (), (), _MONTHS, _DAYS), strict=True)
    )
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Cron(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either)


def _field(text: str, low: int, high: int, names: Sequence[str]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part[:20]!r} is not a field of a cron expression")
        first, last = (low, high) if match[1] == "*" else _span(match[1], low, high, names)
        if match[2] and match[1] != "*" and "-" not in match[1]:
            last = high
        step = int(match[2] or 1)
        if not step:
            raise ValueError("a step must be at least 1")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _span(text: str, low: int, high: int, names: Sequence[str]) -> tuple[int, int]:
    first, _, last = text.partition("-")
    ends = tuple(_number(each, low, names) for each in (first, last or first))
    if not low <= ends[0] <= ends[1] <= high:
        raise ValueError(f"{text[:20]!r} is not between {low} and {high}")
    return ends[0], ends[1]


def _number(text: str, low: int, names: Sequence[str]) -> int:
    if text in names:
        return names.index(text) + low
    if not text.isdigit() or len(text) > 4:
        raise ValueError(f"{text[:20]!r} is not a number")
    return int(text)
