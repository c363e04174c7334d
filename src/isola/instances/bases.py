"""First ids of possible ranges of host ids."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Bases:
    """First ids of possible ranges on this host, as determined last."""

    order: tuple[int, ...] = ()
    looked_up: float | None = None
    named: dict[int, bool] = field(default_factory=dict)
    """First id -> whether the name service has a user or group with it."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
