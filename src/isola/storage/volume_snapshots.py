"""Snapshots of custom volumes: create, rename, restore, delete; scheduled and expired automatically."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from isola.errors import AlreadyExists, InvalidInput, IsolaError
from isola.model.caller import DAEMON, Caller
from isola.model.names import plain_name
from isola.model.schedule import next_name, parse_period, parse_schedule
from isola.model.volume import VolumeRecord, VolumeRef, VolumeSnapshot
from isola.operations import Operation
from isola.storage.volume_records import VolumeContext

_MOST = 1000
"""Maximum for one volume."""
log = logging.getLogger(__name__)


class Snapshots:
    """The snapshots of all volumes."""

    def __init__(self, context: VolumeContext) -> None:
        self._context = context

    def of(self, ref: VolumeRef) -> list[VolumeSnapshot]:
        """Complete ones of a volume, oldest first. Raises NotFound."""
        return [each for each in self._context.snapshots_of(self._context.get(ref)) if each.ready]

    def get(self, ref: VolumeRef, name: str) -> VolumeSnapshot:
        """Raises NotFound."""
        return self._context.snapshot(self._context.get(ref), name)

    def next_name(self, ref: VolumeRef) -> str:
        """The next default name, by ``snapshots.pattern``. Raises NotFound."""
        record = self._context.get(ref)
        taken = [snapshot.name for snapshot in self._context.snapshots_of(record)]
        return next_name(record.config.get("snapshots.pattern", ""), taken, self._context.host.clock.now())

    # --- verbs --------------------------------------------------------------------------------------------------

    def create(
        self,
        ref: VolumeRef,
        name: str,
        *,
        description: str = "",
        expires_at: datetime | None = None,
        forever: bool = False,
        caller: Caller = DAEMON,
    ) -> Operation:
        """Begin to take a snapshot. Without a time it expires by ``snapshots.expiry``, unless ``forever`` is set.

        Raises AlreadyExists, Forbidden.
        """
        record = self._context.usable(ref)
        plain_name(name)
        self._context.permit_snapshot(record.project)
        self._require_room(record, name)
        period = parse_period(record.config.get("snapshots.expiry", ""))
        now = self._context.host.clock.now()
        until = expires_at or (now + period if period and not forever else None)
        id = self._context.host.clock.token(16)
        snapshot = VolumeSnapshot(id, record.id, name, now, description, dict(record.config), until)

        async def work(op: Operation) -> None:
            current = self._context.still(record)
            self._require_room(current, name)
            await self._take(op, current, snapshot)
            self._context.tell("created", ref, name, caller=op.caller)

        return self._start("Creating storage volume snapshot", ref, name, work, caller)

    def rename(self, ref: VolumeRef, name: str, new: str, *, caller: Caller = DAEMON) -> Operation:
        """Begin to rename one. Raises NotFound, AlreadyExists."""
        record = self._context.usable(ref)
        self._context.snapshot(record, name)
        plain_name(new)
        self._require_room(record, new)

        async def work(op: Operation) -> None:
            held = self._context.snapshots.read(f"{record.id}/{name}")
            renamed = replace(held.value, name=new)
            await op.commit(
                lambda: self._context.snapshots.rename(held.value.key, renamed.key, renamed, at=held.revision)
            )
            self._context.tell("renamed", ref, new, caller=op.caller, old_name=name)

        return self._start("Renaming storage volume snapshot", ref, name, work, caller)

    def update(
        self, ref: VolumeRef, name: str, decide: Callable[[VolumeSnapshot], VolumeSnapshot], *, caller: Caller = DAEMON
    ) -> Operation:
        """Begin to change its description and when it expires. Raises NotFound."""
        record = self._context.usable(ref)
        decide(self._context.snapshot(record, name))

        def changed(found: VolumeSnapshot) -> VolumeSnapshot:
            wanted = decide(found)
            return replace(found, description=wanted.description, expires_at=wanted.expires_at)

        async def work(op: Operation) -> None:
            await op.commit(lambda: self._context.snapshots.change(f"{record.id}/{name}", changed))
            self._context.tell("updated", ref, name, caller=op.caller)

        return self._start("Updating storage volume snapshot", ref, name, work, caller)

    def restore(self, ref: VolumeRef, name: str, *, caller: Caller = DAEMON) -> Operation:
        """Begin to restore a volume to a snapshot. Raises NotFound, InUse while it is mounted."""
        record = self._context.usable(ref)
        self._context.snapshot(record, name)
        self._refuse_if_mounted(record)

        async def work(op: Operation) -> None:
            record = self._context.usable(ref)
            self._refuse_if_mounted(record)
            id = self._context.snapshot(record, name).id
            await self._context.driver(record).restore_snapshot(op, record.volume(), id)
            await op.commit()
            self._context.tell("restored", ref, caller=op.caller)

        return self._start("Restoring storage volume snapshot", ref, name, work, caller)

    def delete(self, ref: VolumeRef, name: str, *, caller: Caller = DAEMON) -> Operation:
        """Begin to remove one. Raises NotFound."""
        record = self._context.get(ref)
        self._context.snapshot(record, name, incomplete=True)

        async def work(op: Operation) -> None:
            await self._remove(op, record, self._context.snapshot(record, name, incomplete=True))
            self._context.tell("deleted", ref, name, caller=op.caller)

        return self._start("Deleting storage volume snapshot", ref, name, work, caller)

    # --- how they are done --------------------------------------------------------------------------------------

    async def _take(self, op: Operation, record: VolumeRecord, snapshot: VolumeSnapshot) -> None:
        half_made = replace(snapshot, ready=False)
        await op.effect(
            f"record snapshot {snapshot.name}",
            lambda: self._context.snapshots.add(snapshot.key, half_made),
            undo=lambda: self._context.snapshots.remove(snapshot.key),
        )
        with op.step(f"Snapshot storage volume {record.name}"):
            await self._context.driver(record).create_snapshot(op, record.volume(), snapshot.id)
        await op.commit(lambda: self._context.snapshots.change(snapshot.key, lambda _: snapshot))

    async def _remove(self, op: Operation, record: VolumeRecord, snapshot: VolumeSnapshot) -> None:
        doomed = replace(snapshot, ready=False)
        await op.commit(lambda: self._context.snapshots.change(snapshot.key, lambda _: doomed))
        await self._context.driver(record).delete_snapshot(op, record.volume(), snapshot.id)
        await self._context.snapshots.remove(snapshot.key)

    def _require_room(self, record: VolumeRecord, name: str) -> None:
        taken = self._context.snapshots_of(record)
        if any(snapshot.name == name for snapshot in taken):
            raise AlreadyExists(f"Storage volume {record.name!r} has a snapshot {name!r} already", field="name")
        if len(taken) >= _MOST:
            raise InvalidInput(f"Storage volume {record.name!r} has {_MOST} snapshots", remedy="delete some of them")

    def _refuse_if_mounted(self, record: VolumeRecord) -> None:
        if record.attachments:
            self._context.refuse_if_used(record, "restore")

    def _start(
        self,
        description: str,
        ref: VolumeRef,
        name: str,
        work: Callable[[Operation], Awaitable[None]],
        caller: Caller = DAEMON,
    ) -> Operation:
        resources = [ref.entity, ref.snapshot(name)]
        return self._context.operations.start(
            description, work, locks=[ref.entity.lock], resources=resources, project=ref.project, caller=caller
        )

    # --- by themselves ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Complete deletions and creations that were interrupted by a kill of the daemon."""
        by_id = {record.id: record for record in self._context.records}
        for snapshot in [each for each in self._context.snapshots if not each.ready]:
            record = by_id.get(snapshot.volume)
            if record is not None:
                await self._quietly(record, "Removing incomplete snapshot", snapshot)

    async def look(self, now: datetime) -> None:
        """Remove expired snapshots, and take those that are due in this minute."""
        by_id = {record.id: record for record in self._context.records}
        for snapshot in list(self._context.snapshots):
            if snapshot.expires_at is not None and snapshot.expires_at <= now and snapshot.volume in by_id:
                await self._quietly(by_id[snapshot.volume], "Removing expired snapshot", snapshot)
        for record in by_id.values():
            schedule = record.config.get("snapshots.schedule", "")
            if record.ready and schedule and any(cron.matches(now) for cron in parse_schedule(schedule)):
                try:
                    await self._context.operations.finish(self.create(record.ref, self.next_name(record.ref)))
                except IsolaError as error:
                    log.error("Storage volume %s: scheduled snapshot failed: %s", record.ref, error)

    async def _quietly(self, record: VolumeRecord, what: str, snapshot: VolumeSnapshot) -> None:
        async def work(op: Operation) -> None:
            await self._remove(op, record, snapshot)

        try:
            await self._context.operations.finish(self._start(what, record.ref, snapshot.name, work))
        except IsolaError as error:
            log.error("Cannot delete expired snapshot %s of storage volume %s: %s", snapshot.name, record.ref, error)
