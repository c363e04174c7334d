"""Events as published to followers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``metadata`` is JSON-ready, in the shape the API documents for ``type``."""

    type: str
    """``operation``, ``lifecycle`` or ``logging``."""
    timestamp: datetime
    metadata: Mapping[str, object]
    project: str = "default"
