"""Time and randomness."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from datetime import UTC, datetime
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
        """``size`` random bytes in hexadecimal, from a cryptographic source."""
        ...

    def uuid(self) -> str:
        """A random UUID (version 4)."""
        ...


class LinuxClock:
    """The system's clocks and its random numbers."""

    def now(self) -> datetime:
        """Aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller for this many seconds."""
        await asyncio.sleep(seconds)

    def token(self, size: int = 32) -> str:
        """Unguessable hexadecimal text."""
        return secrets.token_hex(size)

    def uuid(self) -> str:
        """A random UUID."""
        return str(uuid.uuid4())
