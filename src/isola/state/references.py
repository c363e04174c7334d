"""Who uses what: an index in memory that follows from the records, and its keys in the store.

Beside a record, and in the same commit, stands one key for each thing that it uses: ``/uses/<used>/<holder>``. What may
be used has one of its own: ``/usable/<thing>``. A removal is committed only where no key of the first sort is there,
a new use only where the second one is: so neither of two writers overlooks the other, in whichever process they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

from isola.model.reference import Entity, Kind
from isola.state.store import Delete, Expect, Put, Step

T = TypeVar("T")
Used = frozenset[Entity]
NOTHING: Used = frozenset()
USES, USABLE = "/uses/", "/usable/"
PREFIXES = (USES, USABLE)


def _text(entity: Entity) -> str:
    return "/".join(quote(part, safe="") for part in (entity.kind, entity.project, *entity.names))


def users_prefix(used: Entity) -> str:
    """What the keys of all that use a thing begin with. Things of one kind have equally many names."""
    return f"{USES}{_text(used)}/"


def use_key(used: Entity, holder: Entity) -> str:
    """The key that says that ``holder`` uses ``used``."""
    return users_prefix(used) + _text(holder)


def usable_key(used: Entity) -> str:
    """The key that says that a thing is there and may be used; closed by a slash, so that none begins with another."""
    return f"{USABLE}{_text(used)}/"


class References:
    """The index. A lookup costs what it finds, however many records there are."""

    def __init__(self) -> None:
        self._users: dict[Kind, dict[Entity, set[Entity]]] = {}
        self._used: dict[Entity, tuple[Used, Used]] = {}
        """By holder: what cannot go before it, and what can."""
        self._usable: set[Entity] = set()
        self._same: dict[Entity, Entity] = {}
        """One object for a thing that many use."""

    def users(self, used: Entity) -> list[Entity]:
        """What uses a thing, in order."""
        return sorted(self._users.get(used.kind, {}).get(used, ()))

    def of_kind(self, kind: Kind) -> Iterator[tuple[Entity, frozenset[Entity]]]:
        """All things of a kind that are used, each with what uses it."""
        return iter([(used, frozenset(users)) for used, users in self._users.get(kind, {}).items()])

    def uses(self, holder: Entity) -> Used:
        """What cannot go before this holder."""
        return self._used.get(holder, (NOTHING, NOTHING))[0]

    def is_usable(self, thing: Entity) -> bool:
        return thing in self._usable

    def set_usable(self, thing: Entity, usable: bool) -> None:
        (self._usable.add if usable else self._usable.discard)(thing)

    def hold(self, holder: Entity, uses: Iterable[Entity] = (), mentions: Iterable[Entity] = ()) -> None:
        """From now on this is all that ``holder`` uses; nothing: it is gone."""
        before = self._used.pop(holder, (NOTHING, NOTHING))
        now = frozenset(map(self._one, uses)), frozenset(map(self._one, mentions))
        for used in (before[0] | before[1]) - (now[0] | now[1]):
            users = self._users[used.kind][used]
            users.discard(holder)
            if not users:
                del self._users[used.kind][used], self._same[used]
        for used in (now[0] | now[1]) - (before[0] | before[1]):
            self._users.setdefault(used.kind, {}).setdefault(used, set()).add(holder)
        if now[0] or now[1]:
            self._used[holder] = now

    @contextmanager
    def holding(self, holder: Entity, mentions: Iterable[Entity]) -> Iterator[None]:
        """Within, ``holder`` has no record yet and uses this nevertheless."""
        self.hold(holder, mentions=mentions)
        try:
            yield
        finally:
            self.hold(holder)

    def _one(self, used: Entity) -> Entity:
        return self._same.setdefault(used, used)


def _nothing(record: object) -> Used:
    return NOTHING


def _never(*records: object) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Role(Generic[T]):
    """What the records of one noun have to do with others. The functions look at the record, and at projects."""

    references: References
    entity: Callable[[T], Entity]
    uses: Callable[[T], Used] = _nothing
    """What cannot be removed while the record is there."""
    mentions: Callable[[T], Used] = _nothing
    """What can, and is asked for its users all the same."""
    usable: Callable[[T], bool] = _never
    """Whether others may come to use it, of nouns that others use: not while it is half made or half deleted."""
    alone: Callable[[T, T], bool] = _never
    """Whether a change from one to the other is refused while anything uses it."""

    def note(self, old: T | None, new: T | None) -> None:
        """The record has become another; None: there is none."""
        if old is not None and (new is None or self.entity(old) != self.entity(new)):
            self.references.hold(self.entity(old))
            self.references.set_usable(self.entity(old), False)
        if new is not None:
            self.references.hold(self.entity(new), self.uses(new), self.mentions(new))
            self.references.set_usable(self.entity(new), self.usable(new))

    def steps(self, old: T | None, new: T | None) -> list[Step]:
        """What belongs into the commit of such a change."""
        return [*self._as_used(old, new), *self._as_holder(old, new)]

    def keys(self, record: T) -> Mapping[str, bytes]:
        """All keys that stand beside a record."""
        holder = self.entity(record)
        keys = {use_key(used, holder): str(holder).encode() for used in self.uses(record)}
        return keys | ({usable_key(holder): b""} if self.usable(record) else {})

    def _as_used(self, old: T | None, new: T | None) -> Iterator[Step]:
        before = self.entity(old) if old is not None and self.usable(old) else None
        after = self.entity(new) if new is not None and self.usable(new) else None
        if before is not None and before != after:
            yield Expect(users_prefix(before), some=False)
            yield Delete(usable_key(before))
        elif before is not None and old is not None and new is not None and self.alone(old, new):
            yield Expect(users_prefix(before), some=False)
        if after is not None and before != after:
            yield Put(usable_key(after), b"")

    def _as_holder(self, old: T | None, new: T | None) -> Iterator[Step]:
        before = NOTHING if old is None else self.references.uses(self.entity(old))
        after = NOTHING if new is None else self.uses(new)
        moved = old is not None and new is not None and self.entity(old) != self.entity(new)
        for used in sorted(after - before):
            if self.references.is_usable(used):  # else it is named without being there: a profile may do that
                yield Expect(usable_key(used), some=True)
        if old is not None:
            yield from (Delete(use_key(used, self.entity(old))) for used in sorted(before if moved else before - after))
        if new is not None:
            holder = self.entity(new)
            for used in sorted(after if moved else after - before):
                yield Put(use_key(used, holder), str(holder).encode())
