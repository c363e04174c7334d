"""Rate limits on wrong tokens and passwords: for each address, and in total."""

from __future__ import annotations

import math
from collections import OrderedDict

from isola.errors import Forbidden

_EACH = 5
"""Wrong ones from one address before it has to wait."""
_ALL = 200
_SECONDS_EACH = 12.0
"""Time after which an address may try once more."""
_SECONDS_ALL = 0.5
_ADDRESSES = 1024


class Attempts:
    """Leaky buckets: one for each address, of which the most recent are kept, and one for the total."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._all = (0.0, 0.0)

    def wait(self, address: str, now: float) -> float:
        """Seconds until the address may try again; 0 if it may try now."""
        each = _level(self._addresses.get(address, (0.0, now)), now, _SECONDS_EACH)
        together = _level(self._all, now, _SECONDS_ALL)
        return max(0.0, (each - _EACH + 1) * _SECONDS_EACH, (together - _ALL + 1) * _SECONDS_ALL)

    def require_free(self, address: str, now: float, what: str) -> None:
        """Raises Forbidden if the address has to wait; ``what`` was wrong before ("tokens")."""
        if (wait := self.wait(address, now)) > 0:
            unit = "second" if wait <= 1 else "seconds"
            raise Forbidden(f"Too many wrong {what}", remedy=f"try again in {math.ceil(wait)} {unit}")

    def succeeded(self, address: str) -> None:
        """Forget the address: a client that has a right one gains nothing by guessing."""
        self._addresses.pop(address, None)

    def failed(self, address: str, now: float) -> None:
        """Count a wrong one."""
        level = _level(self._addresses.pop(address, (0.0, now)), now, _SECONDS_EACH)
        self._addresses[address] = (level + 1, now)
        if len(self._addresses) > _ADDRESSES:
            self._addresses.popitem(last=False)
        self._all = (_level(self._all, now, _SECONDS_ALL) + 1, now)


def _level(counted: tuple[float, float], now: float, seconds: float) -> float:
    level, at = counted
    return max(0.0, level - (now - at) / seconds)
