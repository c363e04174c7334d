"""The source of a disk that is the content of an image, ``image:NAME``. Pure."""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "image:"
IMAGE = "image"
"""The fact that stays: the image's fingerprint."""
_LONGEST = 512


def image_name(config: Mapping[str, str]) -> str:
    """The name or the fingerprint; empty for another source."""
    source = config.get("source", "")
    return source.removeprefix(SOURCE) if source.startswith(SOURCE) else ""


def parse(value: str) -> str:
    """Raises ValueError."""
    name = value.removeprefix(SOURCE)
    if not name or len(name) > _LONGEST or not name.isprintable() or " " in name:
        raise ValueError(f"the name or the fingerprint of an image is expected after {SOURCE}")
    return value
