"""Regular expressions of filters: those of RE2, as Go has them, which are searched in linear time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

_LONGEST = 1024
_MEMORY = 1 << 20
"""Bytes of an expression when it is compiled, and of what is kept for the search."""
Search = Callable[[str], bool]


@lru_cache(maxsize=8)
def search(pattern: str) -> Search | None:
    """Whether a text has a match anywhere; None for what is no expression, which is found nowhere, as in Docker."""
    import re2  # few clients need it

    options = re2.Options()
    options.max_mem, options.log_errors = _MEMORY, False
    try:
        compiled = re2.compile(pattern, options) if len(pattern) <= _LONGEST else None
    except (re2.error, ValueError):  # such as half of a surrogate pair
        compiled = None
    return None if compiled is None else lambda text: compiled.search(text) is not None
