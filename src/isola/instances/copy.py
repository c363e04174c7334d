"""Create an instance as a copy of another one or of a snapshot: root, configuration, devices, snapshots."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

from isola.errors import HostFailure
from isola.instances.context import Context, HalfMade
from isola.instances.create import Plan, announce, check, half_of, record_created
from isola.instances.describe import describe
from isola.instances.expand import root_pool, with_size
from isola.instances.fault_repair import repair_fault
from isola.instances.half_made import keep_in_mind, undo_of_name
from isola.instances.identity import refreshed
from isola.instances.phases import require_kept
from isola.instances.ranges import give_back, range_for
from isola.instances.root_sizes import kept_size
from isola.instances.roots import copy_root, copy_snapshot, devices_in, moment, start_in
from isola.instances.snapshot_records import find, snapshots_of
from isola.instances.start import start
from isola.instances.templates import OLD_NAME, PENDING
from isola.instances.volatile import GENERATION, LAST_BOOT, own_keys
from isola.model.identity import IdRange
from isola.model.instance import Desired, Instance, InstanceRequest
from isola.model.reference import Ref
from isola.model.snapshot import InstanceSnapshot
from isola.operations import Operation


@dataclass(frozen=True, slots=True)
class Source:
    """The instance or snapshot to copy."""

    ref: Ref
    snapshot: str = ""
    """Empty: the current state of the instance."""
    with_snapshots: bool = True
    """Whether to copy the snapshots of an instance, too."""


def plan(context: Context, source: Source, request: InstanceRequest) -> Plan:
    """The source's properties, overridden by the request's. Raises NotFound, Forbidden, and as ``create.check``."""
    origin, then = _origin(context, source)
    request = dataclasses.replace(
        request,
        image=None,
        type=then.type,
        isolation=then.isolation,
        runtime=then.runtime,
        architecture=then.architecture,
        description=request.description or then.description,
        config={**own_keys(then.config), **own_keys(request.config)},
        devices={**then.devices, **request.devices},
        # Earlier versions let an instance name a profile twice.
        profiles=tuple(dict.fromkeys(then.profiles)) if request.profiles is None else request.profiles,
    )
    found = check(context, request)
    if _wanted(context, source, origin):
        context.permit_snapshot(found.ref.project)
    return found


async def copy(context: Context, op: Operation, source: Source, request: InstanceRequest) -> None:
    """The copy gets new ids, addresses and a new identity. Starting it is a second stage, as in ``create``."""
    await repair_fault(context, op, source.ref)
    found = plan(context, source, request)
    await undo_of_name(context, found.ref)
    id = context.host.clock.token(8)
    half = HalfMade(id, found.ref)
    op.if_undo_fails(lambda _: keep_in_mind(context, half))
    op.on_rollback("give back user ids", partial(give_back, context, id))
    idmap = await range_for(context, id, found.ref.project, found.config)
    origin, then = _origin(context, source)
    instance = await _record(context, op, found, (origin, then), id=id, idmap=idmap)
    half = half_of(context, instance)
    with context.layers.reserved(id, instance.start):
        await announce(context, op, instance)
        await _build(context, op, source, origin, instance)
        await op.commit(lambda: record_created(context, found, instance))
    context.tell("created", instance.ref, caller=op.caller, type=instance.type)
    if request.start:
        op.reopen()
        await start(context, op, instance.ref)


def _origin(context: Context, source: Source) -> tuple[Instance, Instance]:
    """The instance with the volume, and the record whose configuration applies."""
    origin = context.records.get(source.ref)
    require_kept(origin)
    if not source.snapshot:
        return origin, origin
    then = dataclasses.replace(find(context, origin, source.snapshot).instance, project=origin.project)
    # The instance may have been moved since then.
    return origin, dataclasses.replace(then, devices=devices_in(context, then, context.pool_name(origin)))


def _wanted(context: Context, source: Source, origin: Instance) -> list[InstanceSnapshot]:
    return snapshots_of(context, origin) if source.with_snapshots and not source.snapshot else []


async def _record(
    context: Context, op: Operation, found: Plan, source: tuple[Instance, Instance], *, id: str, idmap: IdRange
) -> Instance:
    (origin, then), request, pool = source, found.request, root_pool(found.devices)
    volatile = {
        "root.pool": pool,
        "uuid": (uuid := context.host.clock.uuid()),
        GENERATION: uuid,
        LAST_BOOT: context.host.system.boot_id(),
        PENDING: "copy",
        OLD_NAME: then.name,
    }
    if base := then.volatile.get("base_image"):
        volatile["base_image"] = base
    instance = dataclasses.replace(
        then,
        id=id,
        name=found.ref.name,
        project=found.ref.project,
        idmap=idmap,
        created_at=context.host.clock.now(),
        last_used_at=None,
        last_run=None,
        description=request.description,
        config=dict(request.config),
        devices={name: dict(device) for name, device in request.devices.items()},
        profiles=found.profiles,
        ephemeral=request.ephemeral,
        runtime=found.runtime,
        start=dataclasses.replace(start_in(context, origin, pool), templates=then.start.templates),
        plugged=context.devices.lasting(then.plugged),
        changing={},
        volatile=with_size(volatile, kept_size(context, origin, found.runtime, found.devices, pool)),
    )
    stopped = dataclasses.replace(instance, desired=Desired.STOPPED)
    return await refreshed(context, op, stopped, found.devices)


async def _build(context: Context, op: Operation, source: Source, origin: Instance, instance: Instance) -> None:
    with op.step(f"Copy {origin.name}"):
        if source.snapshot:
            await copy_root(context, op, origin, find(context, origin, source.snapshot).id, instance)
        else:
            async with moment(context, op, origin, context.pool_name(instance)) as then:
                await copy_root(context, op, origin, then, instance)
    for snapshot in _wanted(context, source, origin):
        with op.step(f"Copy snapshot {snapshot.name}"):
            await bring_snapshot(context, op, origin, instance, snapshot)
    descriptions = context.descriptions(context.pool_name(instance))
    await op.effect(
        f"describe {instance.name}",
        lambda: describe(context, instance),
        undo=lambda: descriptions.remove(instance.id),
    )
    with op.step("Register devices"):
        await context.devices.register(op, instance)


async def bring_snapshot(
    context: Context, op: Operation, origin: Instance, instance: Instance, snapshot: InstanceSnapshot, *,
    ready: bool = True,
) -> InstanceSnapshot:  # fmt: skip
    """Copy a snapshot of the source to the copy, recorded as ``ready`` or not yet.

    Without what was in memory: that has the addresses and names of the source.
    """
    then = dataclasses.replace(
        snapshot.instance,
        id=instance.id,
        name=instance.name,
        project=instance.project,
        idmap=instance.idmap,
        plugged=context.devices.lasting(snapshot.instance.plugged),
        changing={},
        start=dataclasses.replace(instance.start, templates=snapshot.instance.start.templates),
        volatile=instance.volatile,
    )
    then = dataclasses.replace(then, devices=devices_in(context, then, context.pool_name(instance)))
    copied = dataclasses.replace(snapshot, id=context.host.clock.token(16), instance=then, ready=ready, stateful=False)
    driver, volume = context.storage(instance), context.volume(instance)

    async def withdraw() -> None:
        if copied.id in await driver.snapshots(volume):
            raise HostFailure(f"Snapshot {copied.name!r} is left in pool {volume.pool!r}")
        await context.snapshots.remove(copied.key)

    await op.effect(f"record snapshot {copied.name}", lambda: context.snapshots.add(copied.key, copied), undo=withdraw)
    await copy_snapshot(context, op, origin, snapshot.id, instance, id=copied.id)
    return copied
