"""The state port. Key names, JSON and caching live above it (``collection.py``); a driver only stores bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored value. ``revision`` is the store-wide number of the write that made it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Entries as they were together at one revision: ``watch(since=revision)`` tells everything after it."""

    revision: int
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Check:
    """A condition: the key stands at this revision; 0 means that it does not exist."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Expect:
    """A condition: some key begins with this prefix, or none does."""

    prefix: str
    some: bool


@dataclass(frozen=True, slots=True)
class Put:
    """Write a value. With ``lease`` the key goes when the lease does."""

    key: str
    value: bytes
    lease: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; fine when it is not there."""

    key: str


Step = Check | Expect | Put | Delete
"""Of a commit. Conditions come before the writes that they are about."""


@dataclass(frozen=True, slots=True)
class Change:
    """One committed write, as a watcher sees it; ``value`` is None for a removal."""

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise to be alive, valid for ``ttl`` seconds after each renewal."""

    id: str
    ttl: float


class Store(ABC):
    """What was acknowledged is on disk. All methods raise HostFailure when the store cannot be reached.

    Others may write to the same store: another process here, other members of a cluster.
    """

    changes_kept = 10_000
    """Revisions that a watcher may be behind and still be told every change."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, make or upgrade the schema."""

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
        """All or nothing, durable on return; gives the revision of the write.

        Raises PreconditionFailed when a check does not hold; then nothing has changed.
        """

    @abstractmethod
    def watch(self, prefix: str, since: int | None = None) -> AsyncIterator[Change]:
        """Changes committed after revision ``since``, in order and each once, other processes' too, until closed.

        Without ``since``: those committed after the first ``anext`` was awaited. A change that has been overwritten
        before it is told may be left out. One of another process is told within seconds. Raises Compacted where
        changes after ``since`` are no longer known, or the watcher has fallen too far behind: read everything again.
        """

    @abstractmethod
    async def copy(self) -> bytes:
        """Everything as it is at one moment, in a form that can be put back."""

    @abstractmethod
    async def lease(self, ttl: float) -> Lease:
        """A new lease of ``ttl`` seconds."""

    @abstractmethod
    async def renew(self, lease: Lease) -> bool:
        """Extend it by its ttl from now; False when it has lapsed already."""

    @abstractmethod
    async def revoke(self, lease: Lease) -> None:
        """End it and remove its keys; fine when it has lapsed."""

    async def range(self, prefix: str) -> Sequence[Entry]:
        """All entries whose key starts with ``prefix``, ordered by key."""
        return (await self.snapshot(prefix)).entries

    async def put(self, key: str, value: bytes) -> int:
        """Write without a condition."""
        return await self.commit(Put(key, value))

    async def compare_and_swap(self, key: str, value: bytes, revision: int) -> int:
        """Write if the key stands at ``revision`` (0: does not exist). Raises PreconditionFailed."""
        return await self.commit(Check(key, revision), Put(key, value))

    async def delete(self, key: str) -> None:
        """Remove a key; fine when it is not there."""
        await self.commit(Delete(key))
