"""Refresh an existing copy: its content and snapshots become those of its origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isola.errors import InvalidInput
from isola.model.caller import DAEMON, Caller
from isola.model.volume import VolumeRecord, VolumeRef, VolumeSnapshot
from isola.operations import Operation
from isola.storage.volume_records import VolumeContext

_Snapshots = Sequence[VolumeSnapshot]


class Refresh:
    """Each snapshot is complete or does not exist, and the content is replaced atomically."""

    def __init__(self, context: VolumeContext) -> None:
        self._context = context

    def begin(
        self, source: VolumeRef, ref: VolumeRef, *, snapshot: str = "", with_snapshots: bool = True,
        caller: Caller = DAEMON,
    ) -> Operation:  # fmt: skip
        """Start refreshing ``ref``, keeping its configuration. Raises NotFound, InvalidInput, InUse, Forbidden."""
        origin, copy = self._context.usable(source), self._context.usable(ref)
        self._check(origin, copy, snapshot, with_snapshots=with_snapshots)

        async def work(op: Operation) -> None:
            now = self._context.still(origin), self._context.still(copy)
            self._check(*now, snapshot, with_snapshots=with_snapshots)
            await self._refresh(op, *now, snapshot, with_snapshots=with_snapshots)
            self._context.tell("updated", ref, caller=op.caller)

        return self._context.operations.start(
            "Refreshing storage volume",
            work,
            locks=sorted({ref.entity.lock, source.entity.lock}),
            resources=[ref.entity],
            project=ref.project,
            caller=caller,
        )

    def _check(self, origin: VolumeRecord, copy: VolumeRecord, snapshot: str, *, with_snapshots: bool) -> None:
        if origin.id == copy.id:
            raise InvalidInput("A storage volume cannot be refreshed from itself", field="source.name")
        if snapshot:
            self._context.snapshot(origin, snapshot)
        if copy.attachments:
            self._context.refuse_if_used(copy, "refresh")
        if with_snapshots and not snapshot and self._differing(origin, copy)[0]:
            self._context.permit_snapshot(copy.project)

    def _differing(self, origin: VolumeRecord, copy: VolumeRecord) -> tuple[_Snapshots, _Snapshots]:
        """Snapshots of the origin that the copy lacks, and surplus ones of the copy, compared by name and time."""
        theirs = {(each.name, each.created_at): each for each in self._context.snapshots_of(origin) if each.ready}
        ours = {(each.name, each.created_at): each for each in self._context.snapshots_of(copy) if each.ready}
        return (
            [each for key, each in theirs.items() if key not in ours],
            [each for key, each in ours.items() if key not in theirs],
        )

    async def _refresh(
        self, op: Operation, origin: VolumeRecord, copy: VolumeRecord, snapshot: str, *, with_snapshots: bool
    ) -> None:
        for each in [each for each in self._context.snapshots_of(copy) if not each.ready]:
            await self._drop(copy, each)  # left by an earlier operation
        missing, outdated = self._differing(origin, copy) if with_snapshots and not snapshot else ((), ())
        taken = {each.name for each in outdated}
        for each in missing:
            if each.name not in taken:
                await self._bring(op, origin, copy, each)
        await self._replace(op, origin, copy, snapshot)
        for each in outdated:
            await self._context.snapshots.change(each.key, lambda found: replace(found, ready=False))
            await self._drop(copy, each)
        for each in missing:
            if each.name in taken:
                await self._bring(op, origin, copy, each)

    async def _bring(self, op: Operation, origin: VolumeRecord, copy: VolumeRecord, snapshot: VolumeSnapshot) -> None:
        made = replace(snapshot, volume=copy.id, id=self._context.host.clock.token(16), ready=False)
        with op.step(f"Copy snapshot {snapshot.name}"):
            await self._fill(op, origin, snapshot.id, copy, made)
        await op.commit(lambda: self._context.snapshots.change(made.key, lambda found: replace(found, ready=True)))
        op.reopen()

    async def _replace(self, op: Operation, origin: VolumeRecord, copy: VolumeRecord, snapshot: str) -> None:
        """Change what differs, all at once."""
        id, then = self._context.host.clock.token(16), self._context.snapshot(origin, snapshot).id if snapshot else None
        driver = self._context.driver(copy)
        with op.step(f"Copy storage volume {origin.name}"):
            async with self._context.driver(origin).contents(origin.volume(), then) as tree:
                await driver.prepare_refresh(op, copy.volume(), id, tree, same_pool=origin.pool == copy.pool)
        await op.commit(lambda: driver.apply_restore(copy.volume(), id))
        op.reopen()

    async def _fill(
        self, op: Operation, origin: VolumeRecord, then: str | None, copy: VolumeRecord, made: VolumeSnapshot
    ) -> None:
        """Record a snapshot of the copy that is not ready yet, and give it the content of the origin or its snapshot.

        A record whose data cannot be removed is kept for the next refresh or the next daemon.
        """
        driver, new, old = self._context.driver(copy), copy.volume(), origin.volume()

        async def withdraw() -> None:
            if made.id not in await driver.snapshots(new):
                await self._context.snapshots.remove(made.key)

        await op.effect(
            f"record snapshot {made.name}", lambda: self._context.snapshots.add(made.key, made), undo=withdraw
        )
        if origin.pool == copy.pool:
            await driver.clone_snapshot(op, new, made.id, old, then)
            return
        async with self._context.driver(origin).contents(old, then) as tree:
            await driver.fill_snapshot(op, new, made.id, tree)

    async def _drop(self, copy: VolumeRecord, snapshot: VolumeSnapshot) -> None:
        await self._context.driver(copy).drop_snapshot(copy.volume(), snapshot.id)
        await self._context.snapshots.remove(snapshot.key)
