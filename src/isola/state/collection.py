"""Typed records over the store, with every record of the collection kept in memory for reading.

One daemon writes its own records, so the copy in memory is right by construction; a second writer (a cluster) is
followed through ``watch``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from isola.errors import AlreadyExists, HostFailure, NotFound
from isola.host.cancellation import finish
from isola.model.reference import Ref
from isola.state.store import Check, Delete, Entry, Put, Store


class Ordered(Protocol):
    """What records are known by: hashed, and sorted for lists."""

    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...


T = TypeVar("T")
K = TypeVar("K", bound=Ordered)


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How a record becomes bytes and comes back."""

    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


@dataclass(frozen=True, slots=True)
class Keys(Generic[K]):
    """How what a record is known by becomes the end of its key in the store, comes back, and is shown to people."""

    text: Callable[[K], str]
    parse: Callable[[str], K]
    shown: Callable[[K], str]


NAMES: Keys[str] = Keys(text=str, parse=str, shown=repr)
REFS: Keys[Ref] = Keys(text=lambda ref: ref.key, parse=Ref.of_key, shown=lambda ref: ref.quoted)


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A record and the revision it was read at, as one value: neither can be taken for another's."""

    value: T
    revision: int


class Keyed(Generic[K, T]):
    """All records of one noun by what they are known by, and in its order. Reads never touch the disk.

    A record that was read before an ``await`` may be old after it. A write therefore names the revision that its
    decision was read at, or gives the decision itself (``change``), which is then made right before the write.
    """

    def __init__(self, store: Store, noun: str, prefix: str, codec: Codec[T], keys: Keys[K]) -> None:
        self.noun = noun
        self._keys = keys
        self._store = store
        self._prefix = prefix
        self._codec = codec
        self._records: dict[K, Versioned[T]] = {}
        self._writing = asyncio.Lock()
        """Writes are committed and noted one after another, so that ``change`` sees what the one before it wrote."""

    async def load(self) -> None:
        """Read all records from the store. Raises HostFailure naming one that cannot be read.

        None is passed over: what belongs to a record that nobody knows would be taken for left behind and removed.
        """
        entries = await self._store.range(self._prefix)
        self._records = {
            self._keys.parse(entry.key.removeprefix(self._prefix)): Versioned(self._decoded(entry), entry.revision)
            for entry in entries
        }

    def __iter__(self) -> Iterator[T]:
        return iter([self._records[name].value for name in sorted(self._records)])

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def find(self, name: K) -> T | None:
        """The record, or None."""
        held = self._records.get(name)
        return held.value if held else None

    def get(self, name: K) -> T:
        """The record. Raises NotFound."""
        return self.read(name).value

    def read(self, name: K) -> Versioned[T]:
        """The record with its revision. Raises NotFound."""
        held = self._records.get(name)
        if held is None:
            raise NotFound(f"{self._said(name)} not found")
        return held

    def revision(self, name: K) -> int:
        """Revision of a record, 0 when there is none; changes with every write."""
        held = self._records.get(name)
        return held.revision if held else 0

    async def add(self, name: K, record: T, *also: Put | Delete) -> Versioned[T]:
        """Write a new record, and with it what else belongs into the same commit. Raises AlreadyExists."""
        async with self._writing:
            if name in self._records:
                raise AlreadyExists(f"{self._said(name)} already exists")
            return await self._write(name, record, 0, *also)

    async def put(self, name: K, record: T, *, at: int) -> Versioned[T]:
        """Write over what was read at revision ``at``; 0 says that there was none. Raises PreconditionFailed."""
        async with self._writing:
            return await self._write(name, record, at)

    async def replace(self, name: K, record: T, *, at: int) -> Versioned[T]:
        """Write over the record that was read at revision ``at``. Raises NotFound, PreconditionFailed."""
        async with self._writing:
            self.read(name)
            return await self._write(name, record, at)

    async def change(self, name: K, decide: Callable[[T], T], *, otherwise: T | None = None) -> Versioned[T]:
        """Write what ``decide`` makes of the record as it stands at its turn, or of ``otherwise`` where there is none.

        Raises NotFound without that, and what ``decide`` raises.
        """
        async with self._writing:
            held = Versioned(otherwise, 0) if otherwise is not None and name not in self else self.read(name)
            if (wanted := decide(held.value)) == held.value and held.revision:
                return held  # what is as it was needs no room on a disk that may be full
            return await self._write(name, wanted, held.revision)

    async def replace_all(self, records: Mapping[K, Versioned[T]]) -> None:
        """Write new values, each over what was read at its revision, all or none.

        Raises NotFound, PreconditionFailed.
        """
        async with self._writing:
            steps: list[Check | Put] = []
            for name, new in records.items():
                self.read(name)
                key = self._key(name)
                steps += [Check(key, new.revision), Put(key, self._codec.encode(new.value))]
            if steps:
                revision = await finish(self._store.commit(*steps))
                self._records |= {name: Versioned(new.value, revision) for name, new in records.items()}

    async def rename(self, old: K, new: K, record: T, *, at: int) -> Versioned[T]:
        """Move a record to a new name in one commit. Raises NotFound, AlreadyExists, PreconditionFailed."""
        async with self._writing:
            self.read(old)
            if new in self._records:
                raise AlreadyExists(f"{self._said(new)} already exists")
            revision = await finish(
                self._store.commit(
                    Check(self._key(old), at),
                    Check(self._key(new), 0),
                    Delete(self._key(old)),
                    Put(self._key(new), self._codec.encode(record)),
                )
            )
            self._records.pop(old, None)
            held = self._records[new] = Versioned(record, revision)
            return held

    async def remove(self, name: K, allow: Callable[[T], object] = lambda record: None) -> None:
        """Remove the record as it stands at its turn, unless ``allow`` raises; fine when there is none."""
        async with self._writing:
            if (held := self._records.get(name)) is not None:
                allow(held.value)
                key = self._key(name)
                await finish(self._store.commit(Check(key, held.revision), Delete(key)))
                self._records.pop(name, None)

    def _key(self, name: K) -> str:
        return self._prefix + self._keys.text(name)

    def _said(self, name: K) -> str:
        return f"{self.noun[:1].upper()}{self.noun[1:]} {self._keys.shown(name)}"

    def _decoded(self, entry: Entry) -> T:
        try:
            return self._codec.decode(entry.value)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise HostFailure(
                f"The record of {self.noun} {entry.key.removeprefix(self._prefix)!r} cannot be read",
                evidence=f"{error}; it begins with {entry.value[:80]!r}",
                remedy=f"put the state back from a copy, or remove the entry {entry.key!r} with all that belongs to it",
            ) from error

    async def _write(self, name: K, record: T, at: int, *also: Put | Delete) -> Versioned[T]:
        key = self._key(name)
        # A cancellation must not come between the store and the copy of it in memory.
        revision = await finish(self._store.commit(Check(key, at), Put(key, self._codec.encode(record)), *also))
        held = self._records[name] = Versioned(record, revision)
        return held


class Collection(Keyed[str, T]):
    """Records that belong to no project, by name."""

    def __init__(self, store: Store, noun: str, prefix: str, codec: Codec[T]) -> None:
        super().__init__(store, noun, prefix, codec, NAMES)


class Scoped(Keyed[Ref, T]):
    """Records that belong to a project: ``/instances/default/web1``."""

    def __init__(self, store: Store, noun: str, prefix: str, codec: Codec[T]) -> None:
        super().__init__(store, noun, prefix, codec, REFS)
