"""Typed records in the store, with a cache of the whole collection in memory for reading.

The cache may be reloaded at any time (``load``). Changes by other writers arrive through ``Follower``; until then the
store refuses a write that is based on an outdated record, and ``change`` repeats its decision.
"""

from __future__ import annotations

import difflib
import logging
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from isola.errors import AlreadyExists, HostFailure, InUse, IsolaError, NotFound, PreconditionFailed
from isola.host.cancellation import finish
from isola.model.reference import Ref
from isola.state.references import Role
from isola.state.store import Change, Check, Delete, Entry, Expect, Put, Step, Store
from isola.state.turns import Turns


class Ordered(Protocol):
    """The type of a collection's keys: hashable, and sortable for lists."""

    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...


T = TypeVar("T")
Stamp = Callable[[T], T]
"""Fills in fields whenever a record is written, such as the cluster member to which it belongs."""
K = TypeVar("K", bound=Ordered)


_MOST_COMPARED, _LONGEST_COMPARED = 100, 64
"""Names among which one like an unknown name is looked for, and their characters: it takes time."""
_ATTEMPTS = 5
"""How often a decision is repeated after writes of others."""
BATCH = 50
"""Most records in one commit. etcd accepts 128 steps by default, and a record needs at least two."""
log = logging.getLogger(__name__)


@contextmanager
def again(attempt: int) -> Iterator[None]:
    """Suppress PreconditionFailed so that the caller's loop tries again; the last attempt raises it."""
    try:
        yield
    except PreconditionFailed:
        if attempt + 1 >= _ATTEMPTS:
            raise


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """Conversion between a record and its bytes in the store."""

    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


@dataclass(frozen=True, slots=True)
class Keys(Generic[K]):
    """Conversion between a record's name and the last part of its key in the store; ``shown`` is used in messages."""

    text: Callable[[K], str]
    parse: Callable[[str], K]
    shown: Callable[[K], str]


NAMES: Keys[str] = Keys(text=str, parse=str, shown=repr)
REFS: Keys[Ref] = Keys(text=lambda ref: ref.key, parse=Ref.of_key, shown=lambda ref: ref.quoted)


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A record and the revision at which it was read, as one value, so that they cannot be mixed up."""

    value: T
    revision: int


class Keyed(Generic[K, T]):
    """All records of one noun, by name and sorted by it. Reads never access the disk.

    A record that was read before an ``await`` may be outdated after it. A write therefore names the revision on which
    it is based, or passes the decision as a function (``change``), which is called right before the write.
    """

    def __init__(  # noqa: PLR0917 - four properties of a noun, its store, and two options
        self, store: Store, noun: str, prefix: str, codec: Codec[T], keys: Keys[K],
        stamp: Stamp[T] | None = None, role: Role[T] | None = None,
    ) -> None:  # fmt: skip
        self.noun = noun
        self.role = role
        """References from and to its records."""
        self.stamped: Stamp[T] = stamp or (lambda record: record)
        self._keys = keys
        self._store = store
        self._prefix = prefix
        self._codec = codec
        self._records: dict[K, Versioned[T]] = {}
        self._names: list[K] | None = None
        """Sorted; None until they are asked for."""
        self.generation = 0
        """Changes with every change of any record, for caches of what is derived from them."""
        self._removed: dict[K, int] = {}
        """Revisions of removals, as long as an older change of these records may still arrive."""
        self._loaded_at = 0
        self.on_change: Callable[[K], object] = lambda name: None
        """Called with each record that another writer may have changed, after the cache has it."""
        self.writing = Turns()
        """Held during each write and its update of the cache, so that ``change`` sees the result of the write before.

        Other code may hold it alone to decide on the collection without concurrent changes, and not write to it then.
        """
        self._sent: dict[str, tuple[bytes, T]] = {}
        """Records that are being written, so that they need not be decoded when the store reports them."""

    async def load(self) -> None:
        """Read all records from the store. Raises HostFailure that names a record which cannot be read.

        An unreadable record is not skipped, because its data would be considered unused and be removed.
        """
        async with self.writing.alone():
            snapshot = await self._store.snapshot(self._prefix)
            records = {
                self._name(entry.key): Versioned(self._decoded(entry), entry.revision) for entry in snapshot.entries
            }
            for held in self._records.values():
                self._index(held.value, None)
            before, self._records, self._removed = self._records, records, {}
            self._names, self.generation = None, self.generation + 1
            for held in records.values():
                self._index(None, held.value)
            self._loaded_at = snapshot.revision
        for name in {*before, *records}:
            self.on_change(name)

    @property
    def prefix(self) -> str:
        """The prefix of all keys of the collection."""
        return self._prefix

    @property
    def loaded_at(self) -> int:
        """Every change up to this revision is in the cache."""
        return self._loaded_at

    def apply(self, change: Change) -> None:
        """Apply a change of the store. A record that cannot be read stays as it was, and writes to it are refused."""
        if change.revision > self._loaded_at:
            name = self._name(change.key)
            if self._is_news(name, change.revision):
                try:
                    value = None if change.value is None else self._read(change.key, change.value, change.revision)
                except HostFailure as error:
                    log.error("%s", error)
                    return
                self._note(name, value, change.revision)
            self.on_change(name)
            if not self.writing.taken():  # all older changes have arrived, and no write is pending
                self._removed = {name: at for name, at in self._removed.items() if at > change.revision}

    def __iter__(self) -> Iterator[T]:
        if self._names is None:
            self._names = sorted(self._records)
        return iter([self._records[name].value for name in self._names])

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
            raise NotFound(f"{self._label(name)} not found", remedy=self._near(name))
        return held

    def revision(self, name: K) -> int:
        """Revision of a record, 0 when there is none; changes with every write."""
        held = self._records.get(name)
        return held.revision if held else 0

    async def add(
        self, name: K, record: T, *also: Put | Delete, allow: Callable[[], object] = lambda: None
    ) -> Versioned[T]:
        """Write a new record, and ``also`` in the same commit, unless ``allow`` raises, which is called under the lock.

        Raises AlreadyExists.
        """
        async with self.writing.alone():
            self._require_free(name)
            allow()
            try:
                return await self._write(name, record, 0, *also)
            except PreconditionFailed:
                self._require_free(name)  # the cache has been updated meanwhile
                raise

    async def put(self, name: K, record: T, *, at: int) -> Versioned[T]:
        """Replace the record that was read at revision ``at``; 0 if there was none. Raises PreconditionFailed."""
        async with self.writing.one(name):
            return await self._write(name, record, at)

    async def replace(self, name: K, record: T, *, at: int, allow: Callable[[], object] | None = None) -> Versioned[T]:
        """Replace the record that was read at revision ``at``, unless ``allow`` raises, which is called under the lock.

        Raises NotFound, PreconditionFailed.
        """
        async with self.writing.one(name) if allow is None else self.writing.alone():
            self.read(name)
            if allow is not None:
                allow()
            return await self._write(name, record, at)

    async def change(
        self, name: K, decide: Callable[[T], T], *, otherwise: T | None = None, pure: bool = False
    ) -> Versioned[T]:
        """Write the result of ``decide`` for the current record, or for ``otherwise`` if there is none.

        ``decide`` may be called several times; a ``pure`` one looks at no other records. Raises NotFound if there is
        neither, and the errors of ``decide``.
        """
        async with self.writing.one(name) if pure else self.writing.alone():
            for attempt in range(_ATTEMPTS):
                held = Versioned(otherwise, 0) if otherwise is not None and name not in self else self.read(name)
                if (wanted := decide(held.value)) == held.value and held.revision:
                    return held  # no write, because the disk may be full
                with again(attempt):
                    return await self._write(name, wanted, held.revision)
            raise AssertionError("the last attempt returns or raises")

    async def replace_all(
        self, records: Mapping[K, Versioned[T]], *, allow: Callable[[], object] = lambda: None
    ) -> None:
        """Replace records, each of which was read at its revision, unless ``allow`` raises, which is called under the
        lock.

        One commit has at most ``BATCH`` of them. If a later commit fails, the records of the earlier ones are restored;
        until then other readers see a part of the new values, and after a kill so does the next daemon.
        Raises NotFound, PreconditionFailed.
        """
        async with self.writing.alone():
            allow()
            before = {name: self.read(name).value for name in records}
            names, written = list(records), dict[K, Versioned[T]]()
            try:
                for start in range(0, len(names), BATCH):
                    written |= await self._write_batch({name: records[name] for name in names[start : start + BATCH]})
            except BaseException:
                await finish(
                    self._put_back({name: Versioned(before[name], at.revision) for name, at in written.items()})
                )
                raise

    async def rename(
        self, old: K, new: K, record: T, *, at: int, allow: Callable[[], object] = lambda: None
    ) -> Versioned[T]:
        """Move a record to a new name in one commit, unless ``allow`` raises at its turn.

        Raises NotFound, AlreadyExists, PreconditionFailed.
        """
        async with self.writing.alone():
            self.read(old)
            self._require_free(new)
            allow()
            record = self.stamped(record)
            revision = await self._commit(
                (old, new),
                Check(self._key(old), at),
                Check(self._key(new), 0),
                Delete(self._key(old)),
                self._put(new, record),
                *self._beside(self._records[old].value, record),
            )
            self._note(old, None, revision)
            self._note(new, record, revision)
            return Versioned(record, revision)

    async def rename_all(self, moves: Mapping[K, tuple[K, Versioned[T]]], *also: Put | Delete) -> None:
        """Move records in one commit, each to a name that is free or that another one leaves.

        ``moves``: old name -> new name, and the record with the revision at which it was read.
        Raises NotFound, AlreadyExists, PreconditionFailed.
        """
        async with self.writing.alone():
            steps: list[Step] = []
            for old, (new, record) in moves.items():
                self.read(old)
                steps.append(Check(self._key(old), record.revision))
                if new not in moves:
                    self._require_free(new)
                    steps.append(Check(self._key(new), 0))
            wanted = {new: self.stamped(record.value) for new, record in moves.values()}
            steps += [Delete(self._key(old)) for old in moves if old not in wanted]
            for old, (new, _) in moves.items():
                steps += [self._put(new, wanted[new]), *self._beside(self._records[old].value, wanted[new])]
            steps.sort(key=lambda step: isinstance(step, Put))  # a key that one of them gives up may be that of another
            revision = await self._commit(tuple({**dict.fromkeys(moves), **dict.fromkeys(wanted)}), *steps, *also)
            for name in {*moves, *wanted}:
                self._note(name, wanted.get(name), revision)

    async def remove(
        self, name: K, allow: Callable[[T], object] | None = None, also: Sequence[Put | Delete] = ()
    ) -> None:
        """Remove the current record, with ``also`` in the same commit, unless ``allow`` raises for it; no effect if
        there is none.
        """
        async with self.writing.one(name) if allow is None else self.writing.alone():
            for attempt in range(_ATTEMPTS):
                if (held := self._records.get(name)) is None:
                    return
                if allow is not None:
                    allow(held.value)
                with again(attempt):
                    key = self._key(name)
                    steps = (Check(key, held.revision), Delete(key), *self._beside(held.value, None))
                    self._note(name, None, await self._commit((name,), *steps, *also))

    async def refer_anew(self, name: K) -> None:
        """Write a record unchanged, because a name in it now refers to another object. Raises NotFound."""
        async with self.writing.alone():
            held = self.read(name)
            await self._write(name, held.value, held.revision)

    def beside(self) -> Iterator[tuple[Check, Mapping[str, bytes]]]:
        """The keys of references that belong to each record, with the condition that the record is unchanged."""
        if self.role is not None:
            for name, held in self._records.items():
                yield Check(self._key(name), held.revision), self.role.keys(held.value)

    def _require_free(self, name: K) -> None:
        if name in self._records:
            raise AlreadyExists(f"{self._label(name)} already exists")

    def _name(self, key: str) -> K:
        return self._keys.parse(key.removeprefix(self._prefix))

    def _key(self, name: K) -> str:
        return self._prefix + self._keys.text(name)

    def _label(self, name: K) -> str:
        return f"{self.noun[:1].upper()}{self.noun[1:]} {self._keys.shown(name)}"

    def _near(self, name: K) -> str:
        """A remedy that names others which may be meant."""
        return ""

    def _read(self, key: str, data: bytes, revision: int) -> T:
        sent = self._sent.get(key)
        return sent[1] if sent is not None and sent[0] == data else self._decoded(Entry(key, data, revision))

    def _put(self, name: K, record: T) -> Put:
        key, data = self._key(name), self._codec.encode(record)
        self._sent[key] = (data, record)
        return Put(key, data)

    def _decoded(self, entry: Entry) -> T:
        try:
            return self._codec.decode(entry.value)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise HostFailure(
                f"The record of {self.noun} {entry.key.removeprefix(self._prefix)!r} cannot be read",
                evidence=f"{error}; it begins with {entry.value[:80]!r}",
                remedy=f"restore the database from a copy, or remove the entry {entry.key!r} and its data",
            ) from error

    async def _write(self, name: K, record: T, at: int, *also: Put | Delete) -> Versioned[T]:
        key, record = self._key(name), self.stamped(record)
        steps = (Check(key, at), self._put(name, record), *self._beside(self.find(name), record))
        revision = await self._commit((name,), *steps, *also)
        self._note(name, record, revision)
        return Versioned(record, revision)

    async def _write_batch(self, records: Mapping[K, Versioned[T]]) -> Mapping[K, Versioned[T]]:
        records = {name: replace(new, value=self.stamped(new.value)) for name, new in records.items()}
        steps: list[Step] = []
        for name, new in records.items():
            steps += [Check(self._key(name), new.revision), self._put(name, new.value)]
            steps += self._beside(self.find(name), new.value)
        revision = await self._commit(tuple(records), *steps)
        for name, new in records.items():
            self._note(name, new.value, revision)
        return {name: Versioned(new.value, revision) for name, new in records.items()}

    async def _put_back(self, records: Mapping[K, Versioned[T]]) -> None:
        names = list(records)
        for start in range(0, len(names), BATCH):
            try:
                await self._write_batch({name: records[name] for name in names[start : start + BATCH]})
            except IsolaError as error:
                log.error("Some records of a failed change could not be restored: %s", error)

    def _beside(self, old: T | None, new: T | None) -> Sequence[Step]:
        """Further steps in the commit of a record, for the keys of its references."""
        return () if self.role is None else self.role.steps(old, new)

    def _index(self, old: T | None, new: T | None) -> None:
        if self.role is not None:
            self.role.note(old, new)

    async def _commit(self, names: Sequence[K], *steps: Step) -> int:
        """Raises PreconditionFailed, after updating the cached records that another writer has changed.

        Raises InUse or NotFound if the record is unchanged, but is used now, or uses an object that was deleted.
        """
        conditions = [step for step in steps if isinstance(step, Check | Expect)]
        writes = [step for step in steps if isinstance(step, Put | Delete)]
        try:
            # A cancellation must not leave the cache without a change that is in the store.
            return await finish(self._store.commit(*conditions, *writes))
        except PreconditionFailed:
            for name in names:
                await self._read_again(name)
            for condition in conditions:
                if isinstance(condition, Expect):
                    await self._require(condition, ", ".join(map(self._label, names)))
            raise
        finally:
            for name in names:
                self._sent.pop(self._key(name), None)

    async def _require(self, condition: Expect, subject: str) -> None:
        found = await self._store.range(condition.prefix)
        if found and not condition.some:
            users = ", ".join(entry.value.decode() for entry in found[:5])
            raise InUse(f"{subject} is in use", evidence=f"by {users}", remedy="remove it there first")
        if condition.some and not found:
            raise NotFound(
                f"{subject} uses an object that was deleted meanwhile", evidence=f"{condition.prefix} does not exist"
            )

    async def _read_again(self, name: K) -> None:
        key = self._key(name)
        snapshot = await self._store.snapshot(key)
        entry = next((entry for entry in snapshot.entries if entry.key == key), None)
        if entry is None:
            self._note(name, None, snapshot.revision)
        else:
            self._note(name, self._decoded(entry), entry.revision)

    def _is_news(self, name: K, revision: int) -> bool:
        return revision > max(self.revision(name), self._removed.get(name, 0))

    def _note(self, name: K, record: T | None, revision: int) -> None:
        """Changes from the store and own writes may arrive in either order: the higher revision wins."""
        if not self._is_news(name, revision):
            return
        self._index(self.find(name), record)
        self.generation += 1
        if self._names is not None and (record is None) == (name in self._records):
            # Not sorted again: with thousands of records that takes longer than the rest of a creation.
            if record is None:
                del self._names[bisect_left(self._names, name)]
            else:
                insort(self._names, name)
        if record is None:
            self._records.pop(name, None)
            self._removed[name] = revision
        else:
            self._removed.pop(name, None)
            self._records[name] = Versioned(record, revision)


class Collection(Keyed[str, T]):
    """Records that belong to no project, by name."""

    def __init__(
        self, store: Store, noun: str, prefix: str, codec: Codec[T], *,
        stamp: Stamp[T] | None = None, role: Role[T] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(store, noun, prefix, codec, NAMES, stamp, role)


class Scoped(Keyed[Ref, T]):
    """Records that belong to a project: ``/instances/default/web1``."""

    def __init__(
        self, store: Store, noun: str, prefix: str, codec: Codec[T], *,
        stamp: Stamp[T] | None = None, role: Role[T] | None = None, suggests: bool = False,
        identity: Callable[[T], str] | None = None,
    ) -> None:  # fmt: skip
        """``suggests``: clients that may ask for a name may see others of the project.

        ``identity``: what identifies a record when its name changes, for ``identified``.
        """
        super().__init__(store, noun, prefix, codec, REFS, stamp, role)
        self._suggests = suggests
        self._identity = identity
        self._identified: dict[str, T] = {}

    def identified(self, id: str) -> T | None:
        """The record with this identity, or None."""
        return self._identified.get(id)

    def _index(self, old: T | None, new: T | None) -> None:
        super()._index(old, new)
        if self._identity is None:
            return
        # After a renaming, the removal of the old name may arrive after the record with the new one.
        if old is not None and self._identified.get(id := self._identity(old)) is old:
            del self._identified[id]
        if new is not None:
            self._identified[self._identity(new)] = new

    def _near(self, name: Ref) -> str:
        if not self._suggests:
            return ""
        known = islice((ref.name for ref in self._records if ref.project == name.project), _MOST_COMPARED)
        found = difflib.get_close_matches(name.name[:_LONGEST_COMPARED], known, n=2)
        return f"did you mean {' or '.join(map(repr, found))}?" if found else ""
