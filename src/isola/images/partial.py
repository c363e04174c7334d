"""Partially downloaded blobs, kept for a while so that the next attempt can resume; known by digest and project.

An intent is recorded before each file is created; other files in the directory are never removed.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

from isola.errors import NotFound
from isola.host import Host
from isola.state import Intent, Intents

_INTENT = "partial-blob"
_KEPT_FOR = timedelta(days=1)
_MOST = 32
_MOST_BYTES = 16 << 30


class Partials:
    """At most 32 files and 16 GiB, none older than a day, not counting files being written."""

    def __init__(self, host: Host, directory: Path, intents: Intents) -> None:
        self._host = host
        self._directory = directory
        self._intents = intents

    async def open(self) -> None:
        """Create the directory, and prune."""
        if not await self._host.files.exists(self._directory):
            await self._host.files.make_directory(self._directory, mode=0o700)
        await self.prune(())

    def path(self, key: str) -> Path:
        """The path of a blob's partial file."""
        return self._directory / key.removeprefix("sha256:")

    async def begin(self, key: str, size: int) -> int:
        """Record the intent; returns the number of bytes present."""
        if _id(key) not in {intent.id for intent in self._intents.of_kind(_INTENT)}:
            facts = {"begun": self._host.clock.now().isoformat(), "size": str(size)}
            await self._intents.begin(Intent(_id(key), _INTENT, facts, (key,)))
        return await self.size(key)

    async def size(self, key: str) -> int:
        """Number of bytes present."""
        try:
            return await self._host.files.size(self.path(key))
        except NotFound:
            return 0

    async def extend(self, key: str, block: bytes, *, at: int) -> None:
        """Write a block at a position, and truncate after it."""
        await self._host.files.extend(self.path(key), block, at=at)

    async def forget(self, key: str) -> None:
        """Drop it, complete or useless; it may be missing."""
        await self._host.files.remove_tree(self.path(key))
        await self._intents.end(_id(key))

    async def prune(self, busy: Collection[str]) -> None:
        """Remove files that are too old or exceed the limits, oldest first, except ``busy`` ones."""
        kept, room = _MOST, _MOST_BYTES
        oldest_kept = self._host.clock.now() - _KEPT_FOR
        for intent in sorted(self._intents.of_kind(_INTENT), key=_begun, reverse=True):
            [key] = intent.digests
            if key in busy:
                continue
            kept, room = kept - 1, room - await self.size(key)
            if kept < 0 or room < 0 or _begun(intent) < oldest_kept:
                await self.forget(key)


def _id(key: str) -> str:
    return f"{_INTENT}-{key.removeprefix('sha256:')}"


def _begun(intent: Intent) -> datetime:
    return datetime.fromisoformat(intent.facts["begun"])
