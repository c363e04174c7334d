"""Typed records over the store, with every record of the collection kept in memory for reading.

One daemon writes its own records, so the copy in memory is right by construction; a second writer (a cluster) is
followed through ``watch``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from isola.errors import AlreadyExists, HostFailure, NotFound
from isola.host.cancellation import finish
from isola.state.store import Check, Delete, Entry, Put, Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How a record becomes bytes and comes back."""

    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


class Collection(Generic[T]):
    """All records of one noun, by name, in order of name. Reads never touch the disk."""

    def __init__(self, store: Store, noun: str, prefix: str, codec: Codec[T]) -> None:
        self.noun = noun
        self._store = store
        self._prefix = prefix
        self._codec = codec
        self._records: dict[str, tuple[T, int]] = {}

    async def load(self) -> None:
        """Read all records from the store. Raises HostFailure naming one that cannot be read.

        None is passed over: what belongs to a record that nobody knows would be taken for left behind and removed.
        """
        entries = await self._store.range(self._prefix)
        self._records = {
            entry.key.removeprefix(self._prefix): (self._decoded(entry), entry.revision) for entry in entries
        }

    def __iter__(self) -> Iterator[T]:
        return iter([self._records[name][0] for name in sorted(self._records)])

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def find(self, name: str) -> T | None:
        """The record, or None."""
        held = self._records.get(name)
        return held[0] if held else None

    def get(self, name: str) -> T:
        """The record. Raises NotFound."""
        held = self._records.get(name)
        if held is None:
            raise NotFound(f"{self.noun[:1].upper()}{self.noun[1:]} {name!r} not found")
        return held[0]

    def revision(self, name: str) -> int:
        """Revision of a record, 0 when there is none; changes with every write."""
        held = self._records.get(name)
        return held[1] if held else 0

    async def add(self, name: str, record: T) -> None:
        """Write a new record. Raises AlreadyExists."""
        if name in self._records:
            raise AlreadyExists(f"{self.noun[:1].upper()}{self.noun[1:]} {name!r} already exists")
        await self._write(name, record)

    async def put(self, name: str, record: T) -> None:
        """Write a record that may or may not exist."""
        await self._write(name, record)

    async def replace(self, name: str, record: T) -> None:
        """Write a new value of an existing record. Raises NotFound; PreconditionFailed if another writer was first."""
        self.get(name)
        await self._write(name, record)

    async def replace_all(self, records: Mapping[str, T]) -> None:
        """Write new values of several records, all or none. Raises NotFound, PreconditionFailed."""
        steps: list[Check | Put] = []
        for name, record in records.items():
            self.get(name)
            key = self._prefix + name
            steps += [Check(key, self.revision(name)), Put(key, self._codec.encode(record))]
        if steps:
            revision = await finish(self._store.commit(*steps))
            self._records |= {name: (record, revision) for name, record in records.items()}

    async def rename(self, old: str, new: str, record: T) -> None:
        """Move a record to a new name in one commit. Raises NotFound, AlreadyExists."""
        self.get(old)
        if new in self._records:
            raise AlreadyExists(f"{self.noun[:1].upper()}{self.noun[1:]} {new!r} already exists")
        revision = await finish(
            self._store.commit(
                Check(self._prefix + old, self.revision(old)),
                Check(self._prefix + new, 0),
                Delete(self._prefix + old),
                Put(self._prefix + new, self._codec.encode(record)),
            )
        )
        self._records.pop(old, None)
        self._records[new] = (record, revision)

    async def remove(self, name: str) -> None:
        """Remove a record; fine when it is not there."""
        if name in self._records:
            await finish(self._store.commit(Delete(self._prefix + name)))
            self._records.pop(name, None)

    def _decoded(self, entry: Entry) -> T:
        try:
            return self._codec.decode(entry.value)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise HostFailure(
                f"The record of {self.noun} {entry.key.removeprefix(self._prefix)!r} cannot be read",
                evidence=f"{error}; it begins with {entry.value[:80]!r}",
                remedy=f"put the state back from a copy, or remove the entry {entry.key!r} with all that belongs to it",
            ) from error

    async def _write(self, name: str, record: T) -> None:
        key = self._prefix + name
        # A cancellation must not come between the store and the copy of it in memory.
        revision = await finish(
            self._store.commit(Check(key, self.revision(name)), Put(key, self._codec.encode(record)))
        )
        self._records[name] = (record, revision)
