"""Progress of the blobs of one transfer, for doors that show each layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class LayerState(Enum):
    """Where a blob is."""

    WAITING = "waiting"
    PRESENT = "present"
    """It is at its target already."""
    MOUNTED = "mounted"
    """The registry has taken it from another repository, ``LayerEvent.source``."""
    MOVING = "moving"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class LayerEvent:
    """One blob has got further; sizes in bytes."""

    digest: str
    state: LayerState
    done: int = 0
    total: int = 0
    source: str = ""


Watch = Callable[[LayerEvent], None]


def unwatched(event: LayerEvent) -> None:
    """A ``Watch`` that shows nothing."""
