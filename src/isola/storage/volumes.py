"""Custom volumes: create, change, rename, delete, attach, read. Every change is an operation."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from isola.errors import AlreadyExists, InvalidInput, IsolaError, WrongState
from isola.events import Events
from isola.host import Host
from isola.model.caller import DAEMON, Caller
from isola.model.identity import IdRange
from isola.model.names import volume_name
from isola.model.reference import Entity
from isola.model.volume import FILESYSTEM, ISO, VolumeRecord, VolumeRef, VolumeSnapshot, size_of
from isola.operations import Operation, Operations
from isola.state import Collection, References
from isola.storage import volume_disks as disks
from isola.storage.capabilities import Feature
from isola.storage.driver import VISITOR
from isola.storage.pools import Pools
from isola.storage.volume_copies import Copies
from isola.storage.volume_records import VolumeContext
from isola.storage.volume_refresh import Refresh
from isola.storage.volume_settings import SETTINGS, with_defaults
from isola.storage.volume_snapshots import Snapshots

Work = Callable[[Operation], Awaitable[object]]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """The disk usage of a volume."""

    used: int
    total: int
    """Limit in bytes; 0 for none."""


class Volumes:
    """All volumes of a daemon that have a record."""

    def __init__(  # noqa: PLR0917 - one for each part that it uses
        self,
        host: Host,
        pools: Pools,
        records: Collection[VolumeRecord],
        snapshots: Collection[VolumeSnapshot],
        operations: Operations,
        events: Events,
        references: References | None = None,
        permit: Callable[[VolumeRecord], None] = lambda record: None,
        permit_snapshot: Callable[[str], None] = lambda project: None,
    ) -> None:
        self._context = VolumeContext(
            host, pools, records, snapshots, operations, events, references or References(), permit, permit_snapshot
        )
        self.copies = Copies(self._context)
        self.refresh = Refresh(self._context).begin
        self.snapshots = Snapshots(self._context)
        self.grown: disks.Grown = disks.untold
        """Called with the holders of a disk that was enlarged."""

    async def open(self) -> None:
        """At daemon start: complete interrupted creations and deletions. Volumes without a record are left alone."""
        for record in list(self._context.records):
            try:
                await self._settle(record)
            except IsolaError as error:
                log.error("Storage volume %s: %s", record.ref, error)
        await self.snapshots.open()

    async def _settle(self, record: VolumeRecord) -> None:
        if not record.ready:
            await self._finish(record.ref, "Removing incomplete storage volume", self._sweeping(record))
            return
        driver = self._context.driver(record)
        if await driver.is_mounted(record.volume(), VISITOR):  # by a daemon that was killed meanwhile
            await driver.hide(record.volume(), VISITOR)
        mounted = [holder for holder in record.attachments if await driver.is_mounted(record.volume(), holder)]
        if len(mounted) < len(record.attachments):  # after a reboot, or a kill of the daemon during attach or detach
            await self._hold(record, lambda held: tuple(holder for holder in held if holder in mounted))

    def __iter__(self) -> Iterator[VolumeRecord]:
        return iter(self._context.records)

    @property
    def generation(self) -> int:
        """Changes with every change of any of them."""
        return self._context.records.generation

    def in_pool(self, pool: str) -> list[VolumeRecord]:
        """All volumes in a pool, sorted by name."""
        return list(self._context.in_pool(pool))

    async def foreign(self, pool: str) -> tuple[Path, ...]:
        """Files in a pool that neither the driver nor any volume has made. Not those among roots of instances."""

        async def listed() -> set[Path]:
            driver = self._context.pools.driver(pool)
            custom = driver.place / "custom"
            found = {each for each in await driver.foreign() if each.parent in {driver.directory, driver.place, custom}}
            return found - {custom / record.id for record in self._context.in_pool(pool)}

        found = await listed()
        if found:  # a volume that was just being deleted is gone when it is looked at again
            found &= await listed()
        return tuple(sorted(found))

    def get(self, ref: VolumeRef) -> VolumeRecord:
        """The record. Raises NotFound."""
        return self._context.get(ref)

    def used_by(self, ref: VolumeRef) -> Sequence[Entity]:
        """Objects whose configuration names it."""
        return self._context.used_by(ref)

    async def usage(self, ref: VolumeRef) -> VolumeUsage:
        """Its usage and limit. Raises NotFound."""
        record = self._context.usable(ref)
        return VolumeUsage(await self._context.driver(record).usage(record.volume()), record.size or 0)

    # --- verbs --------------------------------------------------------------------------------------------------

    async def create(
        self,
        ref: VolumeRef,
        config: Mapping[str, str],
        description: str = "",
        *,
        content: str = FILESYSTEM,
        disc: Path | None = None,
        caller: Caller = DAEMON,
    ) -> Operation:
        """Begin to create an empty volume, or one with a ``disc``: a file whose directory is removed at the end.

        Raises InvalidInput, NotFound, AlreadyExists.
        """
        if content != ISO:
            config = with_defaults(config, self._context.pools.get(ref.pool).config)
        config = await disks.configuration(self._context.host, content, config, disc)
        await self._check_new(ref, config, content)
        record = replace(self.copies.new(ref, config, description), content_type=content)
        self._context.permit(record)

        async def work(op: Operation) -> None:
            async with disks.consumed(self._context.host, disc), self.copies.making(op, record):
                await self._context.driver(record).create_volume(op, record.volume())
                await disks.fill(self._context, op, record, disc)

        return self._start("Creating storage volume", ref, work, caller=caller)

    async def copy(
        self, source: VolumeRef, ref: VolumeRef, *, snapshot: str = "", config: Mapping[str, str] | None = None,
        description: str | None = None, with_snapshots: bool = True, caller: Caller = DAEMON,
    ) -> Operation:  # fmt: skip
        """Start copying a volume or one of its snapshots, also to another pool. Raises the errors of ``create``.

        The source's limit of its size is left out if the other pool cannot limit volumes.
        """
        found = self._context.usable(source)
        wanted = {**found.config} if config is None else {**config}
        if wanted.get("size") == found.config.get("size") and await self._unlimited(ref, wanted, found.content_type):
            del wanted["size"]  # clients of LXD send the source's configuration with the request
        await self._check_new(ref, wanted, found.content_type)
        if snapshot:
            self._context.snapshot(found, snapshot)
        text = found.description if description is None else description
        record = replace(self.copies.new(ref, wanted, text), parent=found.id, content_type=found.content_type)
        self._context.permit(record)
        if with_snapshots and not snapshot and self._context.snapshots_of(found):
            self._context.permit_snapshot(ref.project)

        async def work(op: Operation) -> None:
            await self.copies.copy(
                op, self._context.still(found), record, snapshot=snapshot, with_snapshots=with_snapshots
            )

        return self._start("Copying storage volume", ref, work, source, caller=caller)

    async def move(self, ref: VolumeRef, target: VolumeRef, *, caller: Caller = DAEMON) -> Operation:
        """Begin to rename a volume that nothing uses, or to move it to another pool. Raises InUse, as ``create``."""
        found = self._context.usable(ref)
        self._context.refuse_if_used(found, "move")
        await self._check_new(target, found.config, found.content_type)
        if (target.project, target.pool) != (ref.project, ref.pool):
            self._context.permit(replace(found, pool=target.pool, name=target.name, project=target.project))
        if target.project != ref.project and self._context.snapshots_of(found):
            self._context.permit_snapshot(target.project)

        async def work(op: Operation) -> None:
            current = self._context.still(found)
            self._context.refuse_if_used(current, "move")
            await self.copies.move(op, current, target)

        verb = "Renaming" if target.pool == ref.pool else "Moving"
        return self._start(f"{verb} storage volume", ref, work, target, caller=caller)

    async def update(
        self, ref: VolumeRef, decide: Callable[[VolumeRecord], VolumeRecord], *, caller: Caller = DAEMON
    ) -> Operation:
        """Begin to change configuration and description; the size takes effect at once. Raises InvalidInput."""
        wanted = decide(self._context.usable(ref))
        SETTINGS.validate(wanted.config)
        await self._check_size(ref, wanted.config, wanted.content_type)
        disks.check_change(self._context.usable(ref), wanted)
        self._context.permit(wanted)

        def changed(found: VolumeRecord) -> VolumeRecord:
            wanted = decide(found)
            self._context.permit(wanted)
            return replace(found, description=wanted.description, config=dict(wanted.config))

        async def work(op: Operation) -> None:
            record = self._context.usable(ref)
            wanted = decide(record)
            await disks.grow(self._context, op, record, wanted, self.grown)
            if wanted.size != record.size:
                await self._context.driver(record).resize_volume(op, record.volume(), wanted.size)
            await op.commit(lambda: self._context.records.change(ref.key, changed))
            self._context.tell("updated", ref, caller=op.caller)

        return self._start("Updating storage volume", ref, work, caller=caller)

    async def delete(self, ref: VolumeRef, *, caller: Caller = DAEMON) -> Operation:
        """Begin to remove a volume with its snapshots. Raises NotFound, InUse."""
        record = self._context.get(ref)
        self._context.refuse_if_used(record, "delete")

        async def work(op: Operation) -> None:
            record = self._context.get(ref)
            self._context.refuse_if_used(record, "delete")
            await self._sweeping(record)(op)
            self._context.tell("deleted", ref, caller=op.caller)

        return self._start("Deleting storage volume", ref, work, caller=caller)

    # --- holders ------------------------------------------------------------------------------------------------

    async def attach(self, op: Operation, ref: VolumeRef, holder: str, idmap: IdRange | None) -> Path:
        """Mount a volume for a holder, with the holder's ids, and return the path. No effect if it is mounted.

        Undone with the operation. Raises NotFound, WrongState.
        """
        record = self._context.usable(ref)

        await op.effect(
            f"attach volume {ref.name}", lambda: self._take(record, holder), undo=lambda: self._let_go(record, holder)
        )
        return await self._context.driver(record).mount(op, record.volume(idmap), holder)

    async def detach(self, op: Operation, ref: VolumeRef, holder: str) -> None:
        """Detach it from this holder, not from others. No effect if it is not attached or does not exist."""
        record = self._context.records.find(ref.key)
        if record is not None:
            await self._context.driver(record).unmount(op, record.volume(), holder)
            await op.effect(f"detach volume {ref.name}", lambda: self._let_go(record, holder))

    async def show(self, ref: VolumeRef, holder: str, idmap: IdRange | None) -> Path:
        """``attach`` outside an operation; the caller undoes it by ``hide``. No effect if it is mounted."""
        record = self._context.usable(ref)
        await self._take(record, holder)
        return await self._context.driver(record).show(record.volume(idmap), holder)

    async def hide(self, ref: VolumeRef, holder: str) -> None:
        """``detach`` outside an operation. No effect if it is not mounted or does not exist."""
        record = self._context.records.find(ref.key)
        if record is not None:
            await self._context.driver(record).hide(record.volume(), holder)
            await self._let_go(record, holder)

    @asynccontextmanager
    async def visit(self, ref: VolumeRef) -> AsyncIterator[Path]:
        """Its content, with ids as they are stored, without a holder. Raises NotFound, WrongState."""
        record = self._context.usable(ref)
        async with self._context.driver(record).visit(record.volume()) as directory:
            yield directory

    async def _take(self, record: VolumeRecord, holder: str) -> None:
        """Record the holder, so that the volume is neither deleted nor moved. Raises WrongState if that has begun."""

        def taken(found: VolumeRecord) -> VolumeRecord:
            if not found.ready or found.id != record.id:
                raise WrongState(f"Storage volume {record.name!r} is being deleted")
            return found if holder in found.attachments else replace(found, attachments=(*found.attachments, holder))

        await self._context.records.change(record.ref.key, taken)

    async def _let_go(self, record: VolumeRecord, holder: str) -> None:
        await self._hold(record, lambda held: tuple(each for each in held if each != holder))

    async def _hold(self, record: VolumeRecord, decide: Callable[[tuple[str, ...]], tuple[str, ...]]) -> None:
        def changed(found: VolumeRecord) -> VolumeRecord:
            return replace(found, attachments=decide(found.attachments))

        if record.ref.key in self._context.records:
            await self._context.records.change(record.ref.key, changed)

    # --- what they have in common -------------------------------------------------------------------------------

    def _sweeping(self, record: VolumeRecord) -> Work:
        async def work(op: Operation) -> None:
            # After this commit it can only be completed, by this operation, the next deletion, or the next daemon.
            await op.commit(lambda: self._context.mark(record, ready=False))
            await self._context.sweep(op, record)

        return work

    async def _check_new(self, ref: VolumeRef, config: Mapping[str, str], content: str = FILESYSTEM) -> None:
        volume_name(ref.name)
        self._context.pools.get(ref.pool)
        if ref.kind != "custom":
            raise InvalidInput("Only custom volumes can be created directly", field="type", remedy="use custom")
        if self._context.records.find(ref.key) is not None:
            raise AlreadyExists(f"Storage volume {ref.name!r} already exists in pool {ref.pool!r}", field="name")
        SETTINGS.validate(config)
        await self._check_size(ref, config, content)

    async def _check_size(self, ref: VolumeRef, config: Mapping[str, str], content: str) -> None:
        if reason := await self._unlimited(ref, config, content):
            raise InvalidInput(
                f"Storage pool {ref.pool!r} does not limit its volumes",
                evidence=reason,
                field="config.size",
                remedy="unset size, or choose another pool",
            )

    async def _unlimited(self, ref: VolumeRef, config: Mapping[str, str], content: str) -> str:
        """Why the pool cannot limit the size that the configuration asks for; empty if it can, or needs not."""
        if content != FILESYSTEM or size_of(config) is None:
            return ""
        return await self._context.pools.driver(ref.pool).why_not(Feature.QUOTA)

    def _start(
        self, description: str, ref: VolumeRef, work: Work, *others: VolumeRef, caller: Caller = DAEMON
    ) -> Operation:
        locks = sorted({each.entity.lock for each in (ref, *others)})
        resources = [ref.entity]
        return self._context.operations.start(
            description, work, locks=locks, resources=resources, project=ref.project, caller=caller
        )

    async def _finish(self, ref: VolumeRef, description: str, work: Work) -> None:
        await self._context.operations.finish(self._start(description, ref, work))
