"""Ports that an instance may use, as texts: ``tcp/80``, ``udp/8000-8100``. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import NamedTuple

PROTOCOLS = {"tcp": 6, "udp": 17}
NONE = "none"
_MOST = 64
_RANGE = re.compile(r"(tcp|udp)/([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


class Span(NamedTuple):
    """Ports of one protocol, both ends included."""

    protocol: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.first}" + (f"-{self.last}" if self.last != self.first else "")


def spans(value: str) -> tuple[Span, ...]:
    """Separated by commas; ``none``: no port. Raises ValueError with what is expected."""
    parts = [] if value == NONE else [part.strip() for part in value.split(",")]
    if len(parts) > _MOST:
        raise ValueError(f"at most {_MOST} ports or ranges are expected")
    return tuple(dict.fromkeys(map(span, parts)))


def span(text: str) -> Span:
    """Raises ValueError."""
    found = _RANGE.fullmatch(text)
    first, last = (int(found[2]), int(found[3] or found[2])) if found else (0, 0)
    if found is None or not 1 <= first <= last <= 65_535:
        raise ValueError("ports such as tcp/80,udp/8000-8100, or none, are expected")
    return Span(found[1], first, last)


def joined(ports: Collection[str], most: int = _MOST) -> tuple[str, ...]:
    """These ports, sorted, neighbours as ranges; with more than ``most`` the nearest are joined, and gaps with them."""
    found: list[Span] = []
    for each in sorted(map(span, ports)):
        if found and found[-1].protocol == each.protocol and each.first <= found[-1].last + 1:
            found[-1] = Span(each.protocol, found[-1].first, max(found[-1].last, each.last))
        else:
            found.append(each)
    gaps = sorted(
        (after.first - before.last, place)
        for place, (before, after) in enumerate(pairwise(found))
        if before.protocol == after.protocol
    )
    for _, place in sorted(gaps[: max(len(found) - most, 0)], key=lambda gap: -gap[1]):
        before, after = found[place : place + 2]
        found[place : place + 2] = [Span(before.protocol, before.first, after.last)]
    return tuple(map(str, found))


def of_protocol(wanted: Iterable[str], protocol: str) -> tuple[Span, ...]:
    return tuple(each for each in map(span, wanted) if each.protocol == protocol)
