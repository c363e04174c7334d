"""Filters that several nouns share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isola.doors.docker.expressions import search
from isola.errors import InvalidInput

_TRUTH = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}


def finds(pattern: str, text: str) -> bool:
    """As in Docker the text itself, or an expression that is found in it."""
    if pattern == text:
        return True
    found = search(pattern)
    return found is not None and found(text)


def truth(values: Sequence[str], name: str) -> bool:
    """Of a filter that is true or false. Raises InvalidInput."""
    wanted = {_TRUTH.get(value.lower()) for value in values}
    if len(wanted) != 1 or None in wanted:
        raise InvalidInput(f"invalid filter '{name[:80]}=[{' '.join(values)[:80]}]'", field="filters")
    return wanted == {True}


def matches_labels(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """All of ``name`` and ``name=value``."""
    for each in wanted:
        name, equals, value = each.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True
