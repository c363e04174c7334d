"""Parses times: absolute, a date, or relative to now."""

from __future__ import annotations

from isola.cli.arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime

MOMENTS = "3d, 2w, 2030-01-01 or 2030-01-01T00:00:00Z"
"""Examples for help texts."""


def moment(text: str) -> str:
    """The time in the API's format, in UTC; empty for an empty text. Without a zone it is local. Raises UsageError."""
    if not text:
        return ""
    from datetime import UTC, datetime

    from isola.model.schedule import parse_period

    now = datetime.now(UTC)
    try:
        if period := parse_period(text):
            return _shown(now + period)
    except ValueError:
        pass
    try:
        return _shown(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError):
        raise UsageError(
            f"A time is expected, not {text!r}", hint=f"for example {MOMENTS}; units: M, H, d, w, m (30 days), y"
        ) from None


def _shown(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
