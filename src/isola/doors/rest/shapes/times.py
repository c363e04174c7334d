"""Times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

NEVER = "1970-01-01T00:00:00Z"
UNSET = "0001-01-01T00:00:00Z"
"""LXD's representation of an image's time that was never set."""


@lru_cache(1024)
def moment(time: datetime | None, never: str = NEVER) -> str:
    """RFC 3339 in UTC; ``never`` for None."""
    return never if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")
