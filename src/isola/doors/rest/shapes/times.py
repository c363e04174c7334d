"""Times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime

NEVER = "1970-01-01T00:00:00Z"


def moment(time: datetime | None) -> str:
    """RFC 3339 in UTC; the epoch where there is none, as LXD has it."""
    return NEVER if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")
