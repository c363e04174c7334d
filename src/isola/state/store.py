"""The state port. Key names, JSON and caching live above it (``collection.py``); a driver only stores bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored value. ``revision`` is the store-wide number of the commit that wrote it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All entries at one revision: ``watch(since=revision)`` reports all later changes."""

    revision: int
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Check:
    """A condition: the key has this revision; 0 means that it does not exist."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Expect:
    """A condition: at least one key begins with this prefix, or (``some=False``) no key does."""

    prefix: str
    some: bool


@dataclass(frozen=True, slots=True)
class Put:
    """Write a value. With ``lease`` the key is removed when the lease ends."""

    key: str
    value: bytes
    lease: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; no effect if it does not exist."""

    key: str


Step = Check | Expect | Put | Delete
"""Step of a commit. Conditions come before writes of the same key."""


@dataclass(frozen=True, slots=True)
class Change:
    """One committed write, as a watcher sees it; ``value`` is None for a removal."""

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease on keys, valid for ``ttl`` seconds after each renewal."""

    id: str
    ttl: float


class Store(ABC):
    """Acknowledged writes are durable. All methods raise HostFailure if the store cannot be reached.

    Others may write to the same store: another process here, other members of a cluster.
    """

    changes_kept = 10_000
    """How many revisions a watcher may be behind without having to read everything again."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and create or upgrade the schema."""

    @abstractmethod
    async def close(self) -> None:
        """Flush and disconnect."""

    @abstractmethod
    async def get(self, key: str) -> Entry | None: ...

    @abstractmethod
    async def snapshot(self, prefix: str) -> Snapshot:
        """All entries whose key starts with ``prefix``, ordered by key, at one revision."""

    @abstractmethod
    async def commit(self, *steps: Step) -> int:
        """Atomic, and durable on return; returns the new revision.

        Raises PreconditionFailed if a condition is not met; then nothing is changed.
        """

    @abstractmethod
    def watch(self, prefix: str, since: int | None = None) -> AsyncIterator[Change]:
        """Changes committed after revision ``since``, also by other processes, in order and each once, until closed.

        Without ``since``: those committed after the first ``anext`` was awaited. A change that has been overwritten
        before it is reported may be skipped. Changes of other processes are reported within seconds. Raises Compacted
        if
        changes after ``since`` are no longer in the log, or the watcher has fallen too far behind: read everything
        again.
        """

    @abstractmethod
    async def copy(self) -> bytes:
        """A consistent copy of the database, from which it can be restored."""

    @abstractmethod
    async def lease(self, ttl: float) -> Lease:
        """A new lease of ``ttl`` seconds."""

    @abstractmethod
    async def renew(self, lease: Lease) -> bool:
        """Extend it by its ttl from now; False if it has expired."""

    @abstractmethod
    async def revoke(self, lease: Lease) -> None:
        """End it and remove its keys; no effect if it has expired."""

    async def range(self, prefix: str) -> Sequence[Entry]:
        """All entries whose key starts with ``prefix``, ordered by key."""
        return (await self.snapshot(prefix)).entries

    async def put(self, key: str, value: bytes) -> int:
        """Write without a condition."""
        return await self.commit(Put(key, value))

    async def compare_and_swap(self, key: str, value: bytes, revision: int) -> int:
        """Write if the key has this revision (0: does not exist). Raises PreconditionFailed."""
        return await self.commit(Check(key, revision), Put(key, value))

    async def delete(self, key: str) -> None:
        """Remove a key; no effect if it does not exist."""
        await self.commit(Delete(key))
