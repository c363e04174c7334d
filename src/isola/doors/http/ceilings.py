"""Limits on network connections: per address, for clients without a trusted certificate, and in total."""

from __future__ import annotations

import ipaddress
from collections import Counter

_ALL = 2048
_EACH = 512
"""Connections per address: a hundred commands at once need four or five each."""
_UNTRUSTED = 256
_UNTRUSTED_EACH = 32
"""Connections per address without a trusted certificate."""


def origin(address: str) -> str:
    """The key by which a connection is counted: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
    return str(found)


class Ceilings:
    """Counters of open connections; those that reach zero are removed."""

    def __init__(self) -> None:
        self._each: Counter[str] = Counter()
        self._untrusted: Counter[str] = Counter()

    def admit(self, who: str) -> bool:
        """Whether one more connection may be opened; if so it is counted, as not trusted yet."""
        if self._each.total() >= _ALL or self._each[who] >= _EACH or self._untrusted[who] >= _UNTRUSTED_EACH:
            return self._refused(who)
        self._each[who] += 1
        self._untrusted[who] += 1
        return True

    def most_untrusted(self) -> str | None:
        """The address with the most untrusted connections if there are too many, so that one must be closed; or None.

        New connections are not refused because of this total, or a few addresses could lock out trusted clients.
        """
        if self._untrusted.total() <= _UNTRUSTED:
            return None
        return max(self._untrusted, key=self._untrusted.__getitem__)

    def untrusted_ended(self, who: str) -> None:
        """A connection has presented a trusted certificate, or is being closed: it no longer counts as untrusted."""
        _less(self._untrusted, who)

    def leave(self, who: str) -> None:
        """A connection was closed; ``untrusted_ended`` was called for it before."""
        _less(self._each, who)

    @property
    def open(self) -> int:
        """Number of open connections."""
        return self._each.total()

    def _refused(self, who: str) -> bool:
        for counter in (self._each, self._untrusted):  # a refused address must leave no entry behind
            if not counter[who]:
                del counter[who]
        return False


def _less(counter: Counter[str], who: str) -> None:
    counter[who] -= 1
    if counter[who] <= 0:
        del counter[who]
