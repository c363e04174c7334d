"""A store in memory, with the guarantees of real ones except durability."""

from __future__ import annotations

from collections.abc import AsyncIterator

from isola.errors import PreconditionFailed
from isola.host.clock import Clock
from isola.state.feed import Feed, too_old
from isola.state.store import Change, Check, Delete, Entry, Expect, Lease, Put, Snapshot, Step, Store


class FakeStore(Store):
    """A dictionary that persists after ``close``, so that a test can open it again as after a crash."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, tuple[Entry, str | None]] = {}
        self._leases: dict[str, tuple[float, float]] = {}
        self._revision = 0
        self._log: list[Change] = []
        self._feeds: set[Feed] = set()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def get(self, key: str) -> Entry | None:
        self._expire()
        held = self._entries.get(key)
        return held[0] if held else None

    async def snapshot(self, prefix: str) -> Snapshot:
        """All entries below a prefix."""
        self._expire()
        entries = [self._entries[key][0] for key in sorted(self._entries) if key.startswith(prefix)]
        return Snapshot(self._revision, entries)

    async def commit(self, *steps: Step) -> int:
        """All or nothing."""
        self._expire()
        for step in steps:
            self._check(step)
        self._revision += 1
        for step in steps:
            if isinstance(step, Put):
                self._entries[step.key] = (Entry(step.key, step.value, self._revision), step.lease)
                self._tell(Change(step.key, step.value, self._revision))
            elif isinstance(step, Delete) and step.key in self._entries:
                del self._entries[step.key]
                self._tell(Change(step.key, None, self._revision))
        return self._revision

    async def watch(self, prefix: str, since: int | None = None) -> AsyncIterator[Change]:
        """First logged changes, then new ones."""
        feed = Feed(prefix, self.changes_kept)
        self._feeds.add(feed)
        try:
            if since is not None:
                for change in self._past(since):
                    if change.key.startswith(prefix):
                        yield change
            while True:
                yield await feed.next()
        finally:
            self._feeds.discard(feed)

    def _past(self, since: int) -> list[Change]:
        if not self._revision - self.changes_kept <= since <= self._revision:
            raise too_old()
        return [change for change in self._log if change.revision > since]

    async def copy(self) -> bytes:
        """Keys and values."""
        return repr([(entry.key, entry.value) for entry in await self.range("")]).encode()

    async def lease(self, ttl: float) -> Lease:
        """A new lease."""
        lease = Lease(self._clock.token(8), ttl)
        self._leases[lease.id] = (ttl, self._clock.now().timestamp() + ttl)
        return lease

    async def renew(self, lease: Lease) -> bool:
        """Extend a lease that has not lapsed."""
        self._expire()
        if lease.id not in self._leases:
            return False
        self._leases[lease.id] = (lease.ttl, self._clock.now().timestamp() + lease.ttl)
        return True

    async def revoke(self, lease: Lease) -> None:
        """End a lease and remove its keys."""
        self._drop(lease.id)

    def _check(self, step: Step) -> None:
        if isinstance(step, Check):
            held = self._entries.get(step.key)
            if (held[0].revision if held else 0) != step.revision:
                raise PreconditionFailed(f"{step.key} has changed meanwhile")
        if isinstance(step, Expect) and any(key.startswith(step.prefix) for key in self._entries) != step.some:
            raise PreconditionFailed(f"{step.prefix} has changed meanwhile")
        if isinstance(step, Put) and step.lease and step.lease not in self._leases:
            raise PreconditionFailed("The lease has lapsed")

    def _expire(self) -> None:
        now = self._clock.now().timestamp()
        for id in [id for id, (_, expires) in self._leases.items() if expires <= now]:
            self._drop(id)

    def _drop(self, id: str) -> None:
        self._leases.pop(id, None)
        for key in [key for key, (_, lease) in self._entries.items() if lease == id]:
            del self._entries[key]
            self._revision += 1
            self._tell(Change(key, None, self._revision))

    def _tell(self, change: Change) -> None:
        self._log.append(change)
        if len(self._log) > 2 * self.changes_kept:
            del self._log[: -self.changes_kept]
        for feed in self._feeds:
            feed.tell(change)
