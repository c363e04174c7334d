"""Differences between a root file system and the image layers below it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ChangeKind(IntEnum):
    """With Docker's numbers."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path that differs; directories are modified if anything in them differs."""

    path: str
    """Absolute, with surrogate escapes for bytes that are not UTF-8."""
    kind: ChangeKind
