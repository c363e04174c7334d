"""Intents: written before the first effect of a change that has no record yet, so that a later daemon can undo it.

At its start the daemon removes only objects that an intent or a record names, and leaves all others alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from isola.host.cancellation import finish
from isola.model.identity import NO_MEMBER
from isola.state.codec import record_codec
from isola.state.collection import BATCH
from isola.state.store import Delete, Put, Store

PREFIX = "/intents/"


@dataclass(frozen=True, slots=True)
class Intent:
    """A change that was begun."""

    id: str
    kind: str
    """``instance``: a volume with this id in ``facts["pool"]``; ``move``: one in each of ``from`` and ``to``;
    ``network``: a network of this name, renamed from ``facts["old"]``; ``blobs``: image content that was imported or
    is to be removed.
    """
    facts: Mapping[str, str] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    member: str = NO_MEMBER
    """The cluster member on whose host it was begun; only that member undoes it."""


_CODEC = record_codec(Intent)


class Intents:
    """All current intents of this member, including those of earlier daemons."""

    def __init__(self, store: Store, member: str = NO_MEMBER) -> None:
        self._store = store
        self._member = member
        self._held: dict[str, Intent] = {}

    async def load(self) -> None:
        """Read all. Unreadable intents are skipped: an intent can only permit a removal."""
        for entry in await self._store.range(PREFIX):
            try:
                intent = _CODEC.decode(entry.value)
            except (ValueError, TypeError, LookupError, AttributeError):
                continue
            if intent.member == self._member:
                self._held[intent.id] = intent

    def of_kind(self, kind: str) -> Iterator[Intent]:
        return iter([intent for intent in self._held.values() if intent.kind == kind])

    async def begin(self, intent: Intent) -> None:
        """Durable on return. An intent with the same id is replaced."""
        await finish(self._store.commit(self.beginning(intent)))
        self.begun(intent)

    def beginning(self, intent: Intent) -> Put:
        """The step that writes it in the commit of something else; call ``begun`` after that commit."""
        return Put(PREFIX + intent.id, _CODEC.encode(self._ours(intent)))

    def begun(self, intent: Intent) -> None:
        """It was written by another commit."""
        self._held[intent.id] = self._ours(intent)

    async def end(self, *ids: str) -> None:
        """Remove intents whose change is recorded or undone; no effect for unknown ids."""
        held = [id for id in ids if id in self._held]
        for start in range(0, len(held), BATCH):
            batch = held[start : start + BATCH]
            await finish(self._store.commit(*(Delete(PREFIX + id) for id in batch)))
            for id in batch:
                self._held.pop(id, None)

    def ending(self, id: str) -> Delete:
        """The step that removes it in the commit of the record; call ``ended`` after that commit."""
        return Delete(PREFIX + id)

    def ended(self, id: str) -> None:
        """It was removed by the commit of a record."""
        self._held.pop(id, None)

    def _ours(self, intent: Intent) -> Intent:
        return replace(intent, member=self._member)
