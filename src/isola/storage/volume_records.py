"""Records of volumes and snapshots with their pools: the basis of all verbs on volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from isola.errors import InUse, NotFound, WrongState
from isola.events import Events
from isola.host import Host
from isola.model.caller import DAEMON, Caller
from isola.model.reference import Entity
from isola.model.references import users_text
from isola.model.volume import VolumeRecord, VolumeRef, VolumeSnapshot
from isola.operations import Operation, Operations
from isola.state import Collection, References
from isola.storage.driver import VolumeDriver
from isola.storage.pools import Pools


@dataclass(frozen=True, slots=True)
class VolumeContext:
    """The parts."""

    host: Host
    pools: Pools
    records: Collection[VolumeRecord]
    snapshots: Collection[VolumeSnapshot]
    operations: Operations
    events: Events
    references: References
    permit: Callable[[VolumeRecord], None]
    """Raises Forbidden or InvalidInput if the project does not allow such a volume."""
    permit_snapshot: Callable[[str], None] = lambda project: None
    """Raises Forbidden if the project allows no snapshots."""

    def used_by(self, ref: VolumeRef) -> Sequence[Entity]:
        """Objects whose configuration names the volume."""
        return self.references.users(ref.entity)

    def get(self, ref: VolumeRef) -> VolumeRecord:
        """Raises NotFound."""
        self.pools.get(ref.pool)
        record = self.records.find(ref.key)
        if record is None:
            raise NotFound(f"Storage volume {ref.name[:80]!r} not found in pool {ref.pool!r}")
        return record

    def usable(self, ref: VolumeRef) -> VolumeRecord:
        """A volume that is not being created or deleted. Raises NotFound, WrongState."""
        record = self.get(ref)
        if not record.ready:
            raise WrongState(f"Storage volume {ref.name!r} was created or deleted only partly", remedy="delete it")
        return record

    def driver(self, record: VolumeRecord) -> VolumeDriver:
        """Of its pool."""
        return self.pools.driver(record.pool)

    def snapshots_of(self, record: VolumeRecord) -> list[VolumeSnapshot]:
        """Oldest first, including incomplete ones."""
        found = [each for each in self.snapshots if each.volume == record.id]
        return sorted(found, key=lambda each: (each.created_at, each.name))

    def snapshot(self, record: VolumeRecord, name: str, *, incomplete: bool = False) -> VolumeSnapshot:
        """Raises NotFound, also if it is incomplete and that is not allowed."""
        found = self.snapshots.find(f"{record.id}/{name}")
        if found is None or not (found.ready or incomplete):
            raise NotFound(f"Storage volume {record.name!r} has no snapshot {name[:80]!r}")
        return found

    def in_pool(self, pool: str) -> Iterator[VolumeRecord]:
        """In order of name."""
        return (record for record in self.records if record.pool == pool)

    def refuse_if_used(self, record: VolumeRecord, what: str) -> None:
        """Raise InUse that names its users."""
        users = [*self.used_by(record.ref)]
        if users or record.attachments:
            by = users_text(users) if users else f"{len(record.attachments)} mounts"
            raise InUse(
                f"Storage volume {record.name!r} is in use", evidence=f"by {by}", remedy=f"detach it to {what} it"
            )

    def still(self, record: VolumeRecord) -> VolumeRecord:
        """The current record, after a wait. Raises NotFound if another volume has the name now."""
        found = self.usable(record.ref)
        if found.id != record.id:
            raise NotFound(f"Storage volume {record.name!r} was deleted meanwhile")
        return found

    async def mark(self, record: VolumeRecord, *, ready: bool) -> VolumeRecord:
        """Set ``ready``. Raises InUse if a volume that is to be deleted was attached concurrently."""

        def decide(found: VolumeRecord) -> VolumeRecord:
            return replace(found, ready=True) if ready else self.doomed(found)

        return (await self.records.change(record.ref.key, decide)).value

    def doomed(self, found: VolumeRecord) -> VolumeRecord:
        """The record of a volume whose deletion begins."""
        if found.ready and found.attachments:
            self.refuse_if_used(found, "delete")
        return replace(found, ready=False)

    async def sweep(self, op: Operation, record: VolumeRecord) -> None:
        """Remove a volume whose deletion is recorded, and finally its record. Can be repeated."""
        await self.driver(record).delete_volume(op, record.volume())
        for snapshot in self.snapshots_of(record):
            await self.snapshots.remove(snapshot.key)
        await self.records.remove(record.ref.key)

    def tell(self, action: str, ref: VolumeRef, snapshot: str = "", *, caller: Caller = DAEMON, **context: str) -> None:
        """Publish what happened."""
        noun = "storage-volume-snapshot" if snapshot else "storage-volume"
        source = ref.snapshot(snapshot) if snapshot else ref.entity
        self.events.lifecycle(f"{noun}-{action}", source, caller=caller, **context)
