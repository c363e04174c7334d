"""Sizes that are given in bytes or as a part of the pool."""

from __future__ import annotations

import contextlib
import re

from isola.model.storage import Space
from isola.model.units import parse_size

DEFAULT_ROOT_SIZE = "80%"
"""Of the pool, for each root without a size: so none of them can fill it alone."""


def size_or_percent(value: str) -> str:
    """Parser of the key ``volume.size``."""
    with contextlib.suppress(ValueError):
        if re.fullmatch(r"([1-9][0-9]?|100)%", value) or parse_size(value) > 0:
            return value
    raise ValueError("a size such as 20GiB, or a part of the pool such as 80%, is expected")


def bytes_of(value: str, space: Space) -> int:
    """What such a value means in a pool."""
    part = value.removesuffix("%")
    return parse_size(value) if part == value else space.total * int(part) // 100
