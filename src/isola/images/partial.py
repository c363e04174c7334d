"""Blobs of which only a beginning has come so far: kept for a while, so that the next attempt need not begin again.

Each is announced by an intent before its file is made; nothing else in the directory is ever removed.
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
    """At most 32 files and 16 GiB, none older than a day, those being written not counted."""

    def __init__(self, host: Host, directory: Path, intents: Intents) -> None:
        self._host = host
        self._directory = directory
        self._intents = intents

    async def open(self) -> None:
        """Make the directory, and remove what is too old or too much."""
        if not await self._host.files.exists(self._directory):
            await self._host.files.make_directory(self._directory, mode=0o700)
        await self.prune(())

    def path(self, digest: str) -> Path:
        """Where the beginning of a blob lies, or would lie."""
        return self._directory / digest.removeprefix("sha256:")

    async def begin(self, digest: str, size: int) -> int:
        """Announce it; returns how many bytes are there."""
        if _id(digest) not in {intent.id for intent in self._intents.of_kind(_INTENT)}:
            facts = {"begun": self._host.clock.now().isoformat(), "size": str(size)}
            await self._intents.begin(Intent(_id(digest), _INTENT, facts, (digest,)))
        return await self.size(digest)

    async def size(self, digest: str) -> int:
        """Bytes that are there."""
        try:
            return await self._host.files.size(self.path(digest))
        except NotFound:
            return 0

    async def extend(self, digest: str, block: bytes, *, at: int) -> None:
        """Write a block at a position; what lay behind that goes."""
        await self._host.files.extend(self.path(digest), block, at=at)

    async def forget(self, digest: str) -> None:
        """It is a blob now, or of no use; fine when it is not there."""
        await self._host.files.remove_tree(self.path(digest))
        await self._intents.end(_id(digest))

    async def prune(self, busy: Collection[str]) -> None:
        """Remove what is too old or too much, the oldest first; what is ``busy`` stays."""
        kept, room = _MOST, _MOST_BYTES
        oldest_kept = self._host.clock.now() - _KEPT_FOR
        for intent in sorted(self._intents.of_kind(_INTENT), key=_begun, reverse=True):
            [digest] = intent.digests
            if digest in busy:
                continue
            kept, room = kept - 1, room - await self.size(digest)
            if kept < 0 or room < 0 or _begun(intent) < oldest_kept:
                await self.forget(digest)


def _id(digest: str) -> str:
    return f"{_INTENT}-{digest.removeprefix('sha256:')}"


def _begun(intent: Intent) -> datetime:
    return datetime.fromisoformat(intent.facts["begun"])
