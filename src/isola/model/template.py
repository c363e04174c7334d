"""Templates of images: files that are written into the root of each instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MOST_TEMPLATES, LARGEST_TEXTS = 100, 256 << 10
"""Bounds: templates of an image or instance, and total bytes of their texts."""


@dataclass(frozen=True, slots=True)
class Template:
    """One of them, in LXD's terms."""

    path: str
    """In the instance; empty for a file of an instance that no path uses."""
    when: tuple[str, ...]
    """``create``, ``copy``, ``rename`` (at the next start after it), ``start`` (at every start)."""
    text: str | None
    """None: the instance has no file of this name."""
    name: str = ""
    """Of the file it was read from."""
    create_only: bool = False
    """Not where the file is there already."""
    properties: Mapping[str, str] = field(default_factory=dict)
