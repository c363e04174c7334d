"""Options of isolad that help with an error, by its code."""

from __future__ import annotations

_COMMANDS = {
    "suspect_state": "isolad --recover copy restores the latest intact copy, --recover FILE your own copy, --recover "
    "as-is accepts this database, --recover empty begins without one; isola admin unknown then lists objects without "
    "a record",
}


def ways_out(error: BaseException) -> str:
    """A hint on a line of its own, or an empty string."""
    way = _COMMANDS.get(getattr(error, "code", ""))
    return f"\nHint: {way}" if way else ""
