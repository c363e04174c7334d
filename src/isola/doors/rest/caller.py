"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever may open the Unix socket is trusted with everything."""

    trusted: bool
    name: str = ""
    method: str = ""
