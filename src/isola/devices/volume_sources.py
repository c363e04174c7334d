"""The source of a disk that is a custom volume, ``VOLUME``, or something in it, ``VOLUME/PATH``. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from isola.devices import values


def parse(value: str) -> tuple[str, str]:
    """The volume, and the path in it, empty for all of it. Raises ValueError."""
    name, slash, below = value.partition("/")
    return name, values.path_below(below) if slash else ""


def volume_name(config: Mapping[str, str]) -> str:
    """The volume that is the source of a disk with a pool; empty if it has none."""
    return config.get("source", "").partition("/")[0]


def below(config: Mapping[str, str]) -> str:
    """What of the volume is mounted, by its path there; empty: all of it."""
    return config.get("subpath") or parse(config.get("source", ""))[1]
