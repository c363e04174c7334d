"""How many connections the network may have open: of one address, of those not trusted yet, and of all."""

from __future__ import annotations

import ipaddress
from collections import Counter

_ALL = 2048
_EACH = 512
"""Of one address: a hundred commands at once hold four or five each."""
_UNPROVEN = 256
_UNPROVEN_EACH = 32
"""Of one address, from which nobody trusted has shown a certificate."""


def origin(address: str) -> str:
    """Whom a connection is counted for: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
    return str(found)


class Ceilings:
    """Counts; what is counted for nobody is forgotten."""

    def __init__(self) -> None:
        self._each: Counter[str] = Counter()
        self._unproven: Counter[str] = Counter()

    def admit(self, who: str) -> bool:
        """Whether one more may be opened; it then counts, as not trusted yet."""
        if self._each.total() >= _ALL or self._each[who] >= _EACH:
            return self._refused(who)
        if self._unproven.total() >= _UNPROVEN or self._unproven[who] >= _UNPROVEN_EACH:
            return self._refused(who)
        self._each[who] += 1
        self._unproven[who] += 1
        return True

    def prove(self, who: str) -> None:
        """One of them has shown a certificate that is trusted."""
        _less(self._unproven, who)

    def leave(self, who: str, *, proven: bool) -> None:
        """It is closed."""
        _less(self._each, who)
        if not proven:
            _less(self._unproven, who)

    @property
    def open(self) -> int:
        """How many there are."""
        return self._each.total()

    def _refused(self, who: str) -> bool:
        for counter in (self._each, self._unproven):  # asking a counter leaves a zero behind
            if not counter[who]:
                del counter[who]
        return False


def _less(counter: Counter[str], who: str) -> None:
    counter[who] -= 1
    if counter[who] <= 0:
        del counter[who]
