"""Rebuilds the keys of references from the records, after an older daemon that did not write them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from isola.errors import PreconditionFailed
from isola.host.cancellation import finish
from isola.state.collection import BATCH, Keyed
from isola.state.references import PREFIXES
from isola.state.store import Check, Delete, Entry, Put, Step, Store

_ATTEMPTS = 5
log = logging.getLogger(__name__)


async def recount(store: Store, collections: Sequence[Keyed[Any, Any]]) -> None:
    """Write missing keys and remove those that belong to no record. The collections must have been loaded.

    Keys that other processes write meanwhile are not changed. Raises PreconditionFailed if they change all the time.
    """
    for attempt in range(_ATTEMPTS):
        try:
            differences = await _differences(store, collections)
            for start in range(0, len(differences), BATCH):
                await finish(store.commit(*_ordered(differences[start : start + BATCH])))
            if differences:
                log.info("%d keys of references were corrected from the records", len(differences))
            return
        except PreconditionFailed:
            if attempt + 1 == _ATTEMPTS:
                raise
            for collection in collections:
                await collection.load()


def _ordered(differences: Iterable[tuple[Check, Put | Delete]]) -> list[Step]:
    pairs = list(differences)
    return [*dict.fromkeys(check for check, _ in pairs), *(write for _, write in pairs)]


async def _differences(store: Store, collections: Sequence[Keyed[Any, Any]]) -> list[tuple[Check, Put | Delete]]:
    """Each write with the condition that the record from which it is derived is unchanged."""
    loaded_at = min(collection.loaded_at for collection in collections)
    there: dict[str, Entry] = {entry.key: entry for prefix in PREFIXES for entry in await store.range(prefix)}
    found: list[tuple[Check, Put | Delete]] = []
    wanted: set[str] = set()
    for collection in collections:
        for record, keys in collection.beside():
            wanted |= keys.keys()
            found += [(record, Put(key, value)) for key, value in keys.items() if key not in there]
    for key, entry in there.items():
        if key not in wanted and entry.revision <= loaded_at:
            found.append((Check(key, entry.revision), Delete(key)))
    return found
