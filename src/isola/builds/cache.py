"""Results of steps that later builds use again; the least recently used ones are dropped beyond a size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from collections.abc import Collection as Many
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from isola.errors import AlreadyExists, NotFound
from isola.model.build import BuildResult
from isola.model.image import Layer
from isola.state import Collection

MAX_RESULTS = 5000
_EXACT_TO = timedelta(minutes=5)
"""Resolution of the time of last use."""


class Cache:
    """Over the records of results; the content of layers is in the image store, which they keep."""

    def __init__(
        self,
        records: Collection[BuildResult],
        has: Callable[[str], Awaitable[bool]],
        release: Callable[[Many[str]], Awaitable[None]],
        dropped: Callable[[Many[str]], Awaitable[None]],
    ) -> None:
        self._records = records
        self._has = has
        """Whether the content store has a blob."""
        self._release = release
        """Has the next sweep of the content store remove blobs that are not used any more."""
        self._dropped = dropped
        """Removes layers, by what pools call them, that are not used any more."""
        self._bytes: int | None = None
        """Of all layers, once they have been counted."""
        self._uses = Counter[str]()
        """Uses since the time of last use was written."""

    async def find(self, key: str, now: datetime) -> BuildResult | None:
        """The result of a step, if its layer is still there."""
        found = self._records.find(key)
        if found is None or (found.layer is not None and not await self._has(found.layer.digest)):
            return None
        self._uses[key] += 1
        if now - found.used_at > _EXACT_TO:
            more = self._uses.pop(key)
            with suppress(NotFound):
                await self._records.change(key, lambda old: replace(old, used_at=now, uses=old.uses + more))
        return found

    async def keep(self, key: str, text: str, layer: Layer | None, chain: tuple[str, ...], now: datetime) -> None:
        """Record a result; one that was recorded meanwhile is replaced."""
        made = BuildResult(key, now, now, text[:1000], layer, chain)
        self._uses.pop(key, None)
        try:
            await self._records.add(key, made)
        except AlreadyExists:
            old = self._records.find(key)
            if old is not None and old.layer is not None and old.layer != layer:
                await self._release([old.layer.digest])
            await self._records.change(key, lambda _: made, otherwise=made)  # it may have been pruned meanwhile
        finally:
            self._bytes = None

    def size(self) -> int:
        """Bytes of all layers."""
        if self._bytes is None:
            self._bytes = sum(each.size for each in self._records)
        return self._bytes

    def all(self) -> list[BuildResult]:
        """The least recently used first."""
        counted = (replace(each, uses=each.uses + self._uses[each.key]) for each in self._records)
        return sorted(counted, key=lambda each: each.used_at)

    def since(self) -> datetime | None:
        """When the oldest was made; None without any."""
        return min((each.created_at for each in self._records), default=None)

    def __len__(self) -> int:
        return len(self._records)

    async def prune(
        self, *, most: int = 0, before: datetime | None = None, only: Many[str] | None = None
    ) -> tuple[list[str], int]:
        """Drop results, the least recently used first, until ``most`` bytes are left; returns keys and bytes.

        ``before``: only those that have not been used since; ``only``: of these alone.
        """
        left, freed, keys = self.size(), 0, list[str]()
        if most and left <= most and len(self._records) <= MAX_RESULTS:
            return [], 0  # at the end of most builds
        layers, blobs = set[str](), set[str]()
        for result in sorted(self._records, key=lambda each: each.used_at):
            enough = left <= most and len(self._records) - len(keys) <= (MAX_RESULTS if most else 0)
            if enough or (before is not None and result.used_at >= before):
                break
            if only is not None and result.key not in only:
                continue
            keys.append(result.key)
            layers.update(result.chain)
            blobs.update([result.layer.digest] if result.layer else [])
            left -= result.size
            freed += result.size
        if blobs:
            await self._release(sorted(blobs))
        try:
            for key in keys:
                self._uses.pop(key, None)
                with suppress(NotFound):
                    await self._records.remove(key)
        finally:
            self._bytes = None
        if keys:
            await self._dropped(layers)
        return keys, freed
