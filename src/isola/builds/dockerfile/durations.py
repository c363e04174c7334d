"""Durations as Go writes them: ``1m30s``, ``250ms``."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_MOST = 2**63 - 1


def nanoseconds(text: str) -> int:
    """Raises ValueError."""
    at, total = 0, Fraction(0)
    while match := _PART.match(text, at):
        at = match.end()
        total += Fraction(match[1].rstrip(".")) * _UNITS[match[2]]
    if text == "0":
        return 0
    if at == 0 or at != len(text) or total > _MOST:
        raise ValueError(f'time: invalid duration "{text[:40]}"')
    return int(total)
