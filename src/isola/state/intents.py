"""What was begun and has no record yet: written before the first effect, so that a later daemon may undo it.

Only what stands here, or in a record, is ever removed by the daemon itself; whatever else it finds is left alone.
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
    """One thing that was begun."""

    id: str
    kind: str
    """``instance``: a volume of this id in ``facts["pool"]``; ``move``: one in each of ``from`` and ``to``;
    ``network``: one of this name, renamed from ``facts["old"]``; ``blobs``: content of images that came in or is to
    go."""
    facts: Mapping[str, str] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    member: str = NO_MEMBER
    """Of a cluster: it alone has begun this on its host, and it alone undoes it."""


_CODEC = record_codec(Intent)


class Intents:
    """All that is begun now, of this daemon and of those before it on this member."""

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
        """On disk when this returns. One of the same id is replaced."""
        intent = replace(intent, member=self._member)
        await finish(self._store.commit(Put(PREFIX + intent.id, _CODEC.encode(intent))))
        self._held[intent.id] = intent

    async def end(self, *ids: str) -> None:
        """It is recorded, or undone; fine when it is not there."""
        held = [id for id in ids if id in self._held]
        for start in range(0, len(held), BATCH):
            batch = held[start : start + BATCH]
            await finish(self._store.commit(*(Delete(PREFIX + id) for id in batch)))
            for id in batch:
                self._held.pop(id, None)

    def ending(self, id: str) -> Delete:
        """The step that ends it in the commit of the record; ``ended`` then says that it is done."""
        return Delete(PREFIX + id)

    def ended(self, id: str) -> None:
        """It went with the commit of a record."""
        self._held.pop(id, None)
