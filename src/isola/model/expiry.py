"""Spans of time after which something ends, as the API writes them: ``1d 12H``."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

_PART = re.compile(r"(\d{1,6})([SMHdwmy])", re.ASCII)
_SECONDS = {"S": 1, "M": 60, "H": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True)
class Span:
    """Months of the calendar and seconds: a month has no length of its own."""

    months: int
    seconds: int

    def after(self, start: datetime) -> datetime:
        """The end; the 31st becomes the last day of a shorter month. Raises OverflowError beyond the year 9999."""
        years, month = divmod(start.year * 12 + start.month - 1 + self.months, 12)
        if years > 9999:
            raise OverflowError("the time lies too far ahead")
        day = min(start.day, calendar.monthrange(years, month + 1)[1])
        return start.replace(year=years, month=month + 1, day=day) + timedelta(seconds=self.seconds)


def expiry(text: str) -> Span:
    """Numbers, each with a unit: ``S`` seconds, ``M`` minutes, ``H`` hours, ``d`` days, ``w`` weeks, ``m`` months,
    ``y`` years.

    Raises ValueError that says what is expected.
    """
    months = seconds = 0
    seen: set[str] = set()
    for part in text.split():
        found = _PART.fullmatch(part)
        if found is None or found[2] in seen:
            raise ValueError("a time span such as 1d or 2H 30M is expected (units S, M, H, d, w, m, y, each once)")
        seen.add(found[2])
        if found[2] in ("m", "y"):
            months += int(found[1]) * (12 if found[2] == "y" else 1)
        else:
            seconds += int(found[1]) * _SECONDS[found[2]]
    if not seen:
        raise ValueError("a time span such as 1d or 2H 30M is expected")
    return Span(months, seconds)
