"""The interface of verbs of snapshots for doors; implemented in ``snapshot.py`` and ``restore.py``."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

from isola.errors import IsolaError
from isola.instances import restore as restore_verb
from isola.instances import snapshot as work
from isola.instances.configuration import expanded
from isola.instances.context import Context, entity_of, lock_of
from isola.instances.running import require_live
from isola.instances.snapshot_records import find, in_order, snapshots_of
from isola.instances.suspend import require_savable
from isola.model.caller import DAEMON, Caller
from isola.model.instance import Instance
from isola.model.names import plain_name
from isola.model.reference import Ref
from isola.model.schedule import at_startup, parse_schedule
from isola.model.snapshot import InstanceSnapshot, snapshot_entity
from isola.operations import Operation
from isola.settings import boolean

log = logging.getLogger(__name__)
_MINUTE = timedelta(minutes=1)


class Snapshots:
    """The snapshots of all instances."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def of(self, instance: Instance) -> list[InstanceSnapshot]:
        """Those of an instance, oldest first."""
        return snapshots_of(self._context, instance)

    def of_all(self) -> Mapping[str, Sequence[InstanceSnapshot]]:
        """Those of all instances by instance id, each oldest first: in one pass, for lists."""
        found: dict[str, list[InstanceSnapshot]] = {}
        for each in self._context.snapshots:
            if each.ready:
                found.setdefault(each.instance.id, []).append(each)
        return {id: in_order(each) for id, each in found.items()}

    def get(self, ref: Ref, name: str) -> InstanceSnapshot:
        """Raises NotFound."""
        return find(self._context, self._context.records.get(ref), name)

    def next_name(self, ref: Ref) -> str:
        """The default name of a new snapshot, by ``snapshots.pattern``. Raises NotFound."""
        return work.name_for(self._context, self._context.records.get(ref))

    async def size(self, instance: Instance, snapshot: InstanceSnapshot) -> int:
        """Disk usage in bytes; walks its files if the pool does not count them. -1 after a failure."""
        try:
            return await self._context.storage(instance).usage(self._context.volume(instance), snapshot.id)
        except IsolaError:
            return -1

    # --- verbs --------------------------------------------------------------------------------------------------

    def create(
        self,
        ref: Ref,
        name: str = "",
        *,
        stateful: bool = False,
        expires_at: datetime | None = None,
        forever: bool = False,
        caller: Caller = DAEMON,
    ) -> Operation:
        """Begin to take one, ``stateful`` with what is in memory.

        Without a time it expires by ``snapshots.expiry``, unless ``forever`` is set.

        Raises NotFound, InvalidInput, AlreadyExists, WrongState, Forbidden, Unsupported.
        """
        instance = self._context.records.get(ref)
        name = name or self.next_name(ref)
        if expires_at is None and not forever:
            expires_at = work.expiry(self._context, instance)
        work.check(self._context, instance, name)
        if stateful:
            require_savable(self._context, instance)
            require_live(self._context, instance)
        return self._start(
            "Snapshotting instance",
            instance,
            name,
            lambda op: work.take(
                self._context, op, ref, id=instance.id, name=name, expires_at=expires_at, stateful=stateful
            ),
            caller,
        )

    def rename(self, ref: Ref, name: str, new: str, *, caller: Caller = DAEMON) -> Operation:
        """Begin to rename one. Raises NotFound, InvalidInput, AlreadyExists."""
        instance = self._context.records.get(ref)
        find(self._context, instance, name)
        plain_name(new)
        work.require_free(self._context, instance, new)
        return self._start(
            "Renaming snapshot",
            instance,
            name,
            lambda op: work.rename(self._context, op, ref, name, new),
            caller,
        )

    def update(self, ref: Ref, name: str, decide: work.Decide, *, caller: Caller = DAEMON) -> Operation:
        """Begin to change its expiry. Raises NotFound, and the errors of ``decide``."""
        instance = self._context.records.get(ref)
        decide(find(self._context, instance, name))
        return self._start(
            "Updating snapshot",
            instance,
            name,
            lambda op: work.change(self._context, op, ref, name, decide),
            caller,
        )

    def restore(self, ref: Ref, name: str, *, stateful: bool = False, caller: Caller = DAEMON) -> Operation:
        """Begin to restore the instance, ``stateful`` with what it had in memory.

        Raises NotFound, InvalidInput, WrongState, Forbidden.
        """
        restore_verb.check(self._context, ref, name, stateful=stateful)
        return self._start(
            "Restoring snapshot",
            self._context.records.get(ref),
            name,
            lambda op: restore_verb.restore(self._context, op, ref, name, stateful=stateful),
            caller,
        )

    def delete(self, ref: Ref, name: str, *, caller: Caller = DAEMON) -> Operation:
        """Begin to remove one. Raises NotFound."""
        instance = self._context.records.get(ref)
        find(self._context, instance, name)
        return self._start(
            "Deleting snapshot",
            instance,
            name,
            lambda op: work.delete(self._context, op, ref, name),
            caller,
        )

    def _start(
        self,
        description: str,
        instance: Instance,
        name: str,
        work: Callable[[Operation], Awaitable[None]],
        caller: Caller = DAEMON,
    ) -> Operation:
        resources = [entity_of(instance.ref), snapshot_entity(instance, name)]
        return self._context.operations.start(
            description,
            work,
            locks=[lock_of(instance.ref)],
            resources=resources,
            project=instance.project,
            caller=caller,
        )

    # --- by themselves ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Remove snapshots that an earlier daemon has only partly created or removed."""
        for snapshot in [each for each in self._context.snapshots if not each.ready]:
            await self._quietly("Removing incomplete snapshot", snapshot)

    async def look(self, now: datetime) -> None:
        """Remove expired snapshots, and take those that are due in the minute of ``now``."""
        for snapshot in list(self._context.snapshots):
            if snapshot.ready and snapshot.expires_at is not None and snapshot.expires_at <= now:
                await self._quietly("Removing expired snapshot", snapshot)
        for instance in list(self._context.records):
            if self._is_due(instance, now):
                try:
                    await self._context.operations.finish(self.create(instance.ref))
                except IsolaError as error:
                    log.error("Instance %s: no snapshot could be taken: %s", instance.name, error)

    def _is_due(self, instance: Instance, now: datetime) -> bool:
        config, _ = expanded(self._context, instance)
        schedule = config.get("snapshots.schedule", "")
        if not schedule or instance.deleting:
            return False
        if not self._context.runs(instance) and not boolean(config.get("snapshots.schedule.stopped") or "false"):
            return False
        return any(cron.matches(now) for cron in parse_schedule(schedule)) or (
            at_startup(schedule) and self._has_started(instance, now)
        )

    def _has_started(self, instance: Instance, now: datetime) -> bool:
        """In the minute before: that is how often it is asked."""
        live = self._context.live.get(instance.id)
        return live is not None and now - _MINUTE < live.started_at <= now

    async def _quietly(self, what: str, snapshot: InstanceSnapshot) -> None:
        instance = self._context.by_id(snapshot.instance.id)
        if instance is None or instance.deleting:
            return  # removed with the instance

        async def remove(op: Operation) -> None:
            found = self._context.snapshots.find(snapshot.key)
            if found is not None and found.id == snapshot.id:
                await work.remove(self._context, op, instance, found)

        try:
            await self._context.operations.finish(self._start(what, instance, snapshot.name, remove))
        except IsolaError as error:
            log.error("Snapshot %s of instance %s stays for now: %s", snapshot.name, instance.name, error)
