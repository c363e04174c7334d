"""Where ranges of host ids may begin."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Bases:
    """Where ranges may begin on this host, as it was looked up last."""

    order: tuple[int, ...] = ()
    looked_up: float | None = None
    named: dict[int, bool] = field(default_factory=dict)
    """Whether the name service knows the first id as a user or group."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
