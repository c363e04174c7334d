"""Time and chance."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The only source of time and randomness."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def token(self, size: int = 32) -> str:
        """Unguessable hexadecimal text of ``size`` bytes."""
        ...

    def uuid(self) -> str:
        """A random UUID (version 4)."""
        ...
