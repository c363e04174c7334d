"""Filters that several nouns share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def matches_labels(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """All of ``name`` and ``name=value``."""
    for each in wanted:
        name, equals, value = each.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True
