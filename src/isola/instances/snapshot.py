"""Implementation of the verbs of snapshots: take, rename, change, remove."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime

from isola.errors import AlreadyExists, HostFailure, InvalidInput, NotFound
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.fault_repair import marks, repair_fault
from isola.instances.phases import require_kept
from isola.instances.quiesce import quiesced
from isola.instances.running import require_live
from isola.instances.snapshot_records import find, snapshots_of
from isola.instances.snapshot_states import keep_memory, keep_saved, remove_state
from isola.instances.starting_again import start_again, start_later
from isola.instances.suspend import require_savable, stop_saving
from isola.model.instance import Instance
from isola.model.names import plain_name
from isola.model.reference import Ref
from isola.model.schedule import next_name, parse_period
from isola.model.snapshot import InstanceSnapshot, snapshot_key
from isola.operations import Operation
from isola.runtimes.guest import Standing

MOST = 1000
"""Maximum for one instance."""
Decide = Callable[[InstanceSnapshot], InstanceSnapshot]


def name_for(context: Context, instance: Instance) -> str:
    """The default name of a new snapshot, by ``snapshots.pattern``."""
    config, _ = expanded(context, instance)
    taken = [each.name for each in context.snapshots if each.instance.id == instance.id]
    return next_name(config.get("snapshots.pattern", ""), taken, context.host.clock.now())


def check(context: Context, instance: Instance, name: str) -> None:
    """Check that a snapshot can be taken. Raises InvalidInput, AlreadyExists, WrongState, Forbidden."""
    plain_name(name)
    require_kept(instance)
    context.permit_snapshot(instance.project)
    require_free(context, instance, name)
    if len(snapshots_of(context, instance)) >= MOST:
        raise InvalidInput(f"Instance {instance.name!r} has {MOST} snapshots", remedy="delete some of them")


def require_free(context: Context, instance: Instance, name: str) -> None:
    """Raises AlreadyExists."""
    if any(each.name == name for each in snapshots_of(context, instance)):
        raise AlreadyExists(f"Instance {instance.name!r} has a snapshot {name!r} already", field="name")


async def take(
    context: Context, op: Operation, ref: Ref, *, id: str, name: str, expires_at: datetime | None,
    stateful: bool = False,
) -> None:  # fmt: skip
    """Record the state of the instance, and snapshot its root; ``stateful``: with what it has in memory."""
    await repair_fault(context, op, ref)
    instance = still_the(context, ref, id)
    check(context, instance, name)
    await remove_half_made(context, op, instance)
    marks(context, op, instance.id)
    now = context.host.clock.now()
    snapshot = InstanceSnapshot(context.host.clock.token(16), name, now, instance, expires_at, stateful=stateful)
    if stateful:
        await _take_with_memory(context, op, snapshot)
    else:
        await _take(context, op, snapshot)
    context.tell_snapshot("created", instance, name, caller=op.caller, **({"stateful": True} if stateful else {}))


async def _take_with_memory(context: Context, op: Operation, snapshot: InstanceSnapshot) -> None:
    """A guest that cannot go on after it was saved is stopped with its state, and started from it again."""
    instance = snapshot.instance
    require_savable(context, instance)
    guest = require_live(context, instance).guest
    if isinstance(guest, Standing):
        await _take(context, op, snapshot, lambda: keep_memory(context, op, snapshot, guest))
        return
    try:
        await stop_saving(context, op, instance.ref, again=True)
        op.reopen()
        await _take(context, op, snapshot, lambda: keep_saved(context, op, snapshot))
    except BaseException:
        start_later(context, instance)
        raise
    op.reopen()
    await start_again(context, op, instance.ref)


async def _take(
    context: Context, op: Operation, snapshot: InstanceSnapshot, memory: Callable[[], Awaitable[None]] | None = None
) -> None:
    instance, name = snapshot.instance, snapshot.name
    driver, volume = context.storage(instance), context.volume(instance)

    async def withdraw() -> None:
        if snapshot.id in await driver.snapshots(volume):
            raise HostFailure(f"Snapshot {name!r} is left in pool {volume.pool!r}", remedy="the daemon removes it")
        await context.snapshots.remove(snapshot.key)

    half_made = dataclasses.replace(snapshot, ready=False)
    await op.effect(f"record snapshot {name}", lambda: context.snapshots.add(snapshot.key, half_made), undo=withdraw)
    with op.step(f"Snapshot {instance.name}"):
        async with quiesced(context, op, instance):
            if memory is not None:
                await memory()
            await driver.create_snapshot(op, volume, snapshot.id)
    await op.commit(lambda: context.snapshots.change(snapshot.key, lambda _: snapshot))


async def rename(context: Context, op: Operation, ref: Ref, name: str, new: str) -> None:
    """Raises NotFound, AlreadyExists."""
    instance = context.records.get(ref)
    require_free(context, instance, new)
    await remove_half_made(context, op, instance)
    find(context, instance, name)
    held = context.snapshots.read(snapshot_key(instance.id, name))
    renamed = dataclasses.replace(held.value, name=new)
    await op.commit(lambda: context.snapshots.rename(held.value.key, renamed.key, renamed, at=held.revision))
    context.tell_snapshot("renamed", instance, new, caller=op.caller, old_name=name)


async def change(context: Context, op: Operation, ref: Ref, name: str, decide: Decide) -> None:
    """Change its expiry. Raises NotFound, and the errors of ``decide``."""
    instance = context.records.get(ref)
    find(context, instance, name)

    def changed(found: InstanceSnapshot) -> InstanceSnapshot:
        return dataclasses.replace(found, expires_at=decide(found).expires_at)

    await op.commit(lambda: context.snapshots.change(snapshot_key(instance.id, name), changed))
    context.tell_snapshot("updated", instance, name, caller=op.caller)


async def delete(context: Context, op: Operation, ref: Ref, name: str) -> None:
    """Raises NotFound."""
    instance = context.records.get(ref)
    await remove(context, op, instance, find(context, instance, name))
    context.tell_snapshot("deleted", instance, name, caller=op.caller)


async def remove(context: Context, op: Operation, instance: Instance, snapshot: InstanceSnapshot) -> None:
    """The first write is the point of no return; the rest can be repeated."""
    doomed = dataclasses.replace(snapshot, ready=False)
    await op.commit(lambda: context.snapshots.change(snapshot.key, lambda _: doomed))
    await context.storage(instance).delete_snapshot(op, context.volume(instance), snapshot.id)
    await remove_state(context, snapshot)
    await context.snapshots.remove(snapshot.key)


async def remove_half_made(context: Context, op: Operation, instance: Instance) -> None:
    """Remove snapshots that an earlier verb could not remove, because their names may be needed."""
    half = [each for each in context.snapshots if each.instance.id == instance.id and not each.ready]
    for snapshot in half:
        await remove(context, op, instance, snapshot)
    if half:
        op.reopen()


def still_the(context: Context, ref: Ref, id: str) -> Instance:
    """The current record. Raises NotFound if another instance has the name now."""
    found = context.records.get(ref)
    if found.id != id:
        raise NotFound(f"Instance {ref.name!r} was deleted meanwhile")
    return found


def expiry(context: Context, instance: Instance) -> datetime | None:
    """When a snapshot that is taken now expires, by ``snapshots.expiry``; None: never."""
    period = parse_period(expanded(context, instance)[0].get("snapshots.expiry", ""))
    return context.host.clock.now() + period if period else None
