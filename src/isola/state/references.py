"""References between records: an index in memory that is derived from the records, and keys in the store.

The commit of a record also writes one key for each object that it uses, ``/uses/<used>/<holder>``, and one for itself
while it can be used, ``/usable/<object>``. A removal is committed only if no key of the first kind exists, a new use
only if the second key exists. So two concurrent writers, also in different processes, cannot miss each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Generic, TypeVar
from urllib.parse import quote

from isola.model.reference import Entity, Kind
from isola.state.store import Delete, Expect, Put, Step

T = TypeVar("T")
Used = frozenset[Entity]
NOTHING: Used = frozenset()
USES, USABLE = "/uses/", "/usable/"
PREFIXES = (USES, USABLE)


_quoted = lru_cache(4096)(partial(quote, safe=""))


def _text(entity: Entity) -> str:
    return "/".join(map(_quoted, (entity.kind, entity.project, *entity.names)))


def users_prefix(used: Entity) -> str:
    """Prefix of the keys of all users of an object. It is unambiguous: all objects of a kind have equally many
    names.
    """
    return f"{USES}{_text(used)}/"


def use_key(used: Entity, holder: Entity) -> str:
    """The key that exists while ``holder`` uses ``used``."""
    return users_prefix(used) + _text(holder)


def usable_key(used: Entity) -> str:
    """The key that exists while an object can be used; ends with a slash, so that no key is a prefix of another."""
    return f"{USABLE}{_text(used)}/"


class References:
    """The index. A lookup takes time in proportion to its result, not to the number of records."""

    def __init__(self) -> None:
        self._users: dict[Kind, dict[Entity, set[Entity]]] = {}
        self._used: dict[Entity, tuple[Used, Used]] = {}
        """By holder: objects that cannot be removed before it, and objects that can."""
        self._usable: set[Entity] = set()
        self._same: dict[Entity, Entity] = {}
        """Interned entities, since many holders use the same one."""

    def users(self, used: Entity) -> list[Entity]:
        """The holders that use an object, sorted."""
        return sorted(self._users.get(used.kind, {}).get(used, ()))

    def of_kind(self, kind: Kind) -> Iterator[tuple[Entity, frozenset[Entity]]]:
        """All objects of a kind that are used, each with its users."""
        return iter([(used, frozenset(users)) for used, users in self._users.get(kind, {}).items()])

    def uses(self, holder: Entity) -> Used:
        """The objects that cannot be removed before this holder."""
        return self._used.get(holder, (NOTHING, NOTHING))[0]

    def is_usable(self, thing: Entity) -> bool:
        return thing in self._usable

    def set_usable(self, thing: Entity, usable: bool) -> None:
        (self._usable.add if usable else self._usable.discard)(thing)

    def hold(self, holder: Entity, uses: Iterable[Entity] = (), mentions: Iterable[Entity] = ()) -> None:
        """Replace the references of ``holder``; without any it is removed from the index."""
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
        """Within this context ``holder`` uses these objects although it has no record yet."""
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
    """How the records of one noun refer to others. The functions read the record, and projects."""

    references: References
    entity: Callable[[T], Entity]
    uses: Callable[[T], Used] = _nothing
    """Objects that cannot be removed while the record exists."""
    mentions: Callable[[T], Used] = _nothing
    """Objects that can be removed, but list the record among their users."""
    usable: Callable[[T], bool] = _never
    """Whether it can be used by others: not while it is being created or deleted."""
    alone: Callable[[T, T], bool] = _never
    """Whether a change from the first to the second record is refused while it is used."""

    def note(self, old: T | None, new: T | None) -> None:
        """Update the index for a change of a record; None stands for a missing record."""
        if old is not None and (new is None or self.entity(old) != self.entity(new)):
            self.references.hold(self.entity(old))
            self.references.set_usable(self.entity(old), False)
        if new is not None:
            self.references.hold(self.entity(new), self.uses(new), self.mentions(new))
            self.references.set_usable(self.entity(new), self.usable(new))

    def steps(self, old: T | None, new: T | None) -> list[Step]:
        """The steps that belong to the commit of such a change."""
        return [*self._as_used(old, new), *self._as_holder(old, new)]

    def keys(self, record: T) -> Mapping[str, bytes]:
        """All keys that belong to a record."""
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
            if self.references.is_usable(used):  # otherwise it does not exist; a profile may name such objects
                yield Expect(usable_key(used), some=True)
        if old is not None:
            yield from (Delete(use_key(used, self.entity(old))) for used in sorted(before if moved else before - after))
        if new is not None:
            holder = self.entity(new)
            for used in sorted(after if moved else after - before):
                yield Put(use_key(used, holder), str(holder).encode())
