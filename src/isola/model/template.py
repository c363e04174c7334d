"""Templates of images: files that are written into the root of each instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Template:
    """One of them, in LXD's terms."""

    path: str
    """In the instance."""
    when: tuple[str, ...]
    """``create``, ``copy``, ``rename`` (at the next start after it), ``start`` (at every start)."""
    text: str
    name: str = ""
    """Of the file it was read from."""
    create_only: bool = False
    """Not where the file is there already."""
    properties: Mapping[str, str] = field(default_factory=dict)
