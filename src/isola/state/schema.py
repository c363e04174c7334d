"""The version of the records' layout in the store, and the upgrade from older versions."""

from __future__ import annotations

import orjson

from isola.errors import SuspectState
from isola.host.cancellation import finish
from isola.model.project import DEFAULT
from isola.model.reference import Ref
from isola.state.codec import encode
from isola.state.store import Check, Delete, Put, Store

KEY = "/schema"
PRESENT = 2
"""1: 0.1, in which nouns had names only. 2: ``/instances/<project>/<name>``."""
_SCOPED = ("/instances/", "/profiles/", "/images/", "/aliases/", "/networks/")


async def upgrade(store: Store) -> None:
    """Upgrade all records in one commit. Raises SuspectState if a newer daemon wrote them."""
    found = await store.get(KEY)
    version = 1 if found is None else int(orjson.loads(found.value)["version"])
    if version > PRESENT:
        raise SuspectState(
            f"The state has schema version {version}, and this daemon supports {PRESENT} at most",
            remedy="start the newer daemon that wrote it, or restore an earlier copy",
        )
    if version == PRESENT:
        return
    steps: list[Check | Put | Delete] = [
        Check(KEY, found.revision if found is not None else 0),
        Put(KEY, orjson.dumps({"version": PRESENT})),
        Put(f"/projects/{DEFAULT.name}", encode(DEFAULT)),
    ]
    for prefix in _SCOPED:
        for entry in await store.range(prefix):
            name = entry.key.removeprefix(prefix)
            steps += [
                Check(entry.key, entry.revision),
                Delete(entry.key),
                Put(prefix + Ref.default(name).key, entry.value),
            ]
    await finish(store.commit(*steps))
