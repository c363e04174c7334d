"""Filters that several nouns share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from isola.errors import InvalidInput

_TRUTH = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}


_WILDCARDS = 8


def finds(pattern: str, text: str) -> bool:
    """As in Docker an expression, of which ``^``, ``$`` and ``.*`` are known: others can take very long."""
    head, tail, parts = pattern.startswith("^"), pattern.endswith("$"), pattern.strip("^$").split(".*")[:_WILDCARDS]
    expression = ".*".join(map(re.escape, parts))
    return re.search(f"{'^' if head else ''}{expression}{'$' if tail else ''}", text) is not None


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
