"""Patterns of ``${name#pattern}``, ``%`` and ``/``: ``*`` and ``?``, without backtracking: values are untrusted."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

MAX_WORK = 20_000_000
"""Characters of the value times those of the pattern."""


class Wild(Enum):
    """A wildcard of a pattern."""

    ONE = "?"
    MANY = "*"


Token = str | Wild


def tokens(pattern: str) -> tuple[Token, ...]:
    """Raises ValueError for a backslash before anything that needs none."""
    found: list[Token] = []
    characters = iter(pattern)
    for char in characters:
        if char == "\\":
            escaped = next(characters, "")
            if escaped not in ("*", "?", "\\", "}", "/"):
                raise ValueError(f"invalid pattern ({pattern[:80]}) in substitution: invalid escape '\\{escaped}'")
            found.append(escaped)
        else:
            found.append(Wild(char) if char in "*?" else char)
    return tuple(found)


def without_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without the shortest or longest beginning that matches."""
    ends = _ends(value, 0, tokens(pattern))
    return value[(max if longest else min)(ends) :] if ends else value


def without_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without the shortest or longest end that matches."""
    ends = _ends(value[::-1], 0, tokens(pattern)[::-1])
    return value[: len(value) - (max if longest else min)(ends)] if ends else value


def replaced(value: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    """The value with the first match, or each, replaced."""
    wanted = tokens(pattern)
    if len(value) ** 2 * (len(wanted) + 1) > MAX_WORK:
        raise ValueError(f"the value is too long for a replacement: {len(value)} characters")
    parts: list[str] = []
    at = 0
    while at < len(value):
        end = max(_ends(value, at, wanted), default=at)
        if end == at:
            parts.append(value[at])
            at += 1
            continue
        parts.append(replacement)
        at = end
        if not everywhere:
            break
    return "".join(parts) + value[at:]


def _ends(value: str, start: int, wanted: Sequence[Token]) -> set[int]:
    """Where a match that begins at ``start`` can end."""
    if (len(value) - start) * len(wanted) > MAX_WORK:
        raise ValueError(f"the value is too long for a pattern: {len(value)} characters")
    reached = {start}
    for token in wanted:
        if token is Wild.MANY:
            reached = set(range(min(reached), len(value) + 1))
        elif token is Wild.ONE:
            reached = {at + 1 for at in reached if at < len(value)}
        else:
            reached = {at + 1 for at in reached if at < len(value) and value[at] == token}
        if not reached:
            break
    return reached
