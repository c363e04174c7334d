"""Signals by name and number, Linux's numbers whatever Python calls them."""

from __future__ import annotations

import signal

from isola.errors import InvalidInput

_RTMIN, _RTMAX = 34, 64
HALTING = ("SIGRTMIN+3", "SIGUSR1", "SIGPWR")
"""Signals that ask an init to halt; programs know nothing of them."""


def signal_number(name: str | int) -> int:
    """Number of ``SIGTERM``, ``TERM``, ``SIGRTMIN+3``, ``15`` or 15. Raises InvalidInput."""
    if isinstance(name, int) or name.isdecimal():
        number = int(str(name)[:9])  # Python refuses thousands of digits
        if not 1 <= number <= _RTMAX:
            raise InvalidInput(f"No signal has the number {number}", field="signal", remedy="use 1 to 64")
        return number
    text = name.upper().removeprefix("SIG")
    if text.startswith("RTMIN+") and text[6:].isdecimal() and _RTMIN + int(text[6:]) <= _RTMAX:
        return _RTMIN + int(text[6:])
    if text.startswith("RTMAX-") and text[6:].isdecimal() and _RTMAX - int(text[6:]) >= _RTMIN:
        return _RTMAX - int(text[6:])
    try:
        return int(signal.Signals[f"SIG{text}"])
    except KeyError:
        raise InvalidInput(
            f"There is no signal {name[:40]!r}", field="signal", remedy="use a name like SIGTERM"
        ) from None
