"""Creating volumes, empty or as a copy, and moving them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from isola.model.volume import VolumeRecord, VolumeRef, VolumeSnapshot
from isola.operations import Operation
from isola.storage.volume_records import VolumeContext


class Copies:
    """While a volume is created its record is not ready, so that the next daemon can remove it."""

    def __init__(self, context: VolumeContext) -> None:
        self._context = context

    def new(self, ref: VolumeRef, config: Mapping[str, str], description: str) -> VolumeRecord:
        clock = self._context.host.clock
        return VolumeRecord(
            id=f"vol-{clock.token(16)}",
            pool=ref.pool,
            kind=ref.kind,
            project=ref.project,
            name=ref.name,
            created_at=clock.now(),
            description=description,
            config=dict(config),
        )

    @asynccontextmanager
    async def making(self, op: Operation, record: VolumeRecord) -> AsyncIterator[None]:
        """Record it as not ready, run the body, and record it as ready. A failure undoes everything."""
        await self._announce(op, record, lambda: self._context.permit(record))
        with op.step(f"Create storage volume {record.name}"):
            yield
        await op.commit(lambda: self._context.mark(record, ready=True))
        self._context.tell("created", record.ref, caller=op.caller, type=record.kind)

    async def copy(
        self, op: Operation, source: VolumeRecord, record: VolumeRecord, *, snapshot: str, with_snapshots: bool
    ) -> None:
        """Create ``record`` with the content of ``source`` or one of its snapshots."""
        async with self.making(op, record):
            await self._fill(op, source, record, snapshot)
            if with_snapshots and not snapshot:
                await self._copy_snapshots(op, source, record)

    async def move(self, op: Operation, source: VolumeRecord, target: VolumeRef) -> None:
        """Within a pool only the record changes; to another pool it is copied, and the source removed."""
        if source.pool == target.pool:
            await op.commit(lambda: self._rename(source, target))
            self._context.tell("renamed", target, caller=op.caller, old_name=source.name)
            return
        record = replace(
            self.new(target, source.config, source.description),
            created_at=source.created_at,
            content_type=source.content_type,
        )
        moved = replace(source, project=target.project, pool=target.pool, name=target.name)
        await self._announce(op, record, lambda: self._context.permit(moved))
        await self._fill(op, source, record, "")
        await self._copy_snapshots(op, source, record)
        await op.commit(lambda: self._change_over(source, record))
        self._context.tell("created", target, caller=op.caller, type=target.kind)
        await self._context.sweep(op, source)
        self._context.tell("deleted", source.ref, caller=op.caller)

    async def _announce(self, op: Operation, record: VolumeRecord, allow: Callable[[], object] = lambda: None) -> None:
        half_made = replace(record, ready=False)
        await op.effect(
            f"record volume {record.name}",
            lambda: self._context.records.add(record.ref.key, half_made, allow=allow),
            undo=lambda: self._forget(record),
        )

    async def _forget(self, record: VolumeRecord) -> None:
        for snapshot in self._context.snapshots_of(record):
            await self._context.snapshots.remove(snapshot.key)
        if await self._context.driver(record).has_volume(record.volume()):
            return  # it could not be removed: the record is kept for the next deletion or the next daemon
        await self._context.records.remove(record.ref.key)

    async def _fill(self, op: Operation, source: VolumeRecord, record: VolumeRecord, snapshot: str) -> None:
        id = self._context.snapshot(source, snapshot).id if snapshot else None
        driver, old, new = self._context.driver(record), source.volume(), record.volume()
        with op.step(f"Copy storage volume {source.name}"):
            if source.pool == record.pool:
                await driver.clone_volume(op, new, old, id)
                return
            async with self._context.driver(source).contents(old, id) as tree:
                await driver.fill_volume(op, new, tree)

    async def _copy_snapshots(self, op: Operation, source: VolumeRecord, record: VolumeRecord) -> None:
        for snapshot in [each for each in self._context.snapshots_of(source) if each.ready]:
            copy = replace(snapshot, volume=record.id, id=self._context.host.clock.token(16))
            with op.step(f"Copy snapshot {snapshot.name}"):
                await self._copy_snapshot(op, (source, snapshot), (record, copy))

    async def _copy_snapshot(
        self, op: Operation, old: tuple[VolumeRecord, VolumeSnapshot], new: tuple[VolumeRecord, VolumeSnapshot]
    ) -> None:
        (source, snapshot), (record, copy) = old, new
        driver = self._context.driver(record)
        async with self._context.driver(source).contents(source.volume(), snapshot.id) as tree:
            await driver.fill_snapshot(op, record.volume(), copy.id, tree, same_pool=source.pool == record.pool)
        await self._context.snapshots.add(copy.key, copy)

    async def _rename(self, source: VolumeRecord, target: VolumeRef) -> None:
        records = self._context.records
        held = records.read(source.ref.key)
        self._context.refuse_if_used(held.value, "rename")
        renamed = replace(held.value, name=target.name, project=target.project)

        def allow() -> None:
            if target.project != source.project:
                self._context.permit(renamed)

        await records.rename(source.ref.key, target.key, renamed, at=held.revision, allow=allow)

    async def _change_over(self, source: VolumeRecord, record: VolumeRecord) -> None:
        """Change both records in one commit, so that there is always exactly one volume."""
        records = self._context.records
        old, new = records.read(source.ref.key), records.read(record.ref.key)
        await records.replace_all(
            {
                source.ref.key: replace(old, value=self._context.doomed(old.value)),
                record.ref.key: replace(new, value=replace(new.value, ready=True)),
            }
        )
