"""Parsing ``WWW-Authenticate``: how a registry wants to be asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)(?=\s|$|,)\s*", re.ASCII)
_PAIR = re.compile(r'\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.ASCII)
_MOST_PARAMETERS = 32
_LONGEST = 8 << 10


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate; names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def challenges(header: str) -> tuple[Challenge, ...]:
    """Those that can be read; damage ends the list."""
    found: list[Challenge] = []
    header, position, count = header[:_LONGEST], 0, 0
    while scheme := _SCHEME.match(header, position):
        position, parameters = scheme.end(), dict[str, str]()
        while (pair := _PAIR.match(header, position)) and (count := count + 1) <= _MOST_PARAMETERS:
            position = pair.end()
            parameters[pair[1].lower()] = re.sub(r"\\(.)", r"\1", pair[2]) if pair[2] is not None else pair[3]
        found.append(Challenge(scheme[1].lower(), parameters))
        if count > _MOST_PARAMETERS:
            break
    return tuple(found)


def preferred(header: str) -> Challenge | None:
    """Bearer before Basic, as Docker prefers; None if there is neither."""
    known = {each.scheme: each for each in reversed(challenges(header))}
    return known.get("bearer") or known.get("basic")
