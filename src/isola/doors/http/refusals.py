"""Logging of refused requests, rate-limited."""

from __future__ import annotations

import logging

from isola.host.clock import Clock
from isola.model.caller import Caller

log = logging.getLogger("isola.access")
_BURST = 50
_SECONDS_EACH = 1.0
_TEXT = 200


class Refusals:
    """Logs refusals, at most one per second, each with the number of those not logged before it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._room = float(_BURST)
        self._last = clock.monotonic()
        self._left_out = 0

    def note(self, caller: Caller, method: str, target: str, why: str) -> None:
        """Log a refusal. ``target``: the request's target; its query is not logged, as it may contain a secret."""
        now = self._clock.monotonic()
        self._room = min(_BURST, self._room + (now - self._last) / _SECONDS_EACH)
        self._last = now
        if self._room < 1:
            self._left_out += 1
            return
        self._room -= 1
        path = target.partition("?")[0][:_TEXT]
        more = f" ({self._left_out} more before it)" if self._left_out else ""
        self._left_out = 0
        log.warning("Refused to %s: %s %r: %s%s", described(caller), method[:20], path, why, more)


def described(caller: Caller) -> str:
    """The caller, for the log."""
    name = caller.name or "an unknown caller"
    return f"{name} ({caller.credential}) at {caller.address}" if caller.address else f"{name} ({caller.credential})"
