"""What on isolad's own command line helps with an error, by its code."""

from __future__ import annotations

_COMMANDS = {
    "suspect_state": "isolad --recover copy takes the newest whole copy, --recover FILE one of yours, --recover as-is "
    "this one, --recover empty none; isola admin unknown then lists what is in no record",
}


def ways_out(error: BaseException) -> str:
    """On lines of their own, or nothing."""
    way = _COMMANDS.get(getattr(error, "code", ""))
    return f"\nHint: {way}" if way else ""
