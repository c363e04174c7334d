"""Move a stopped instance to another pool, project, name or isolation, with its id, host ids and MAC addresses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from isola.errors import AlreadyExists, InvalidInput, Unsupported, WrongState
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.describe import describe, describe_change
from isola.instances.disks import require_same
from isola.instances.expand import naming, validate, with_size
from isola.instances.fault_repair import marks, repair_fault
from isola.instances.files import end_sessions
from isola.instances.identity import plugs_of, refreshed
from isola.instances.moving import announce, finish_later, finish_moves_of, moves_of, settle
from isola.instances.phases import require_kept
from isola.instances.root_sizes import kept_size
from isola.instances.roots import copy_root, copy_snapshot, devices_in, pool_among, start_in, with_root
from isola.instances.snapshot import remove as remove_snapshot
from isola.instances.snapshot_records import snapshots_of
from isola.instances.templates import renamed as facts_after
from isola.instances.update import allow
from isola.instances.volatile import own_keys
from isola.instances.walls import ISOLATION, require_config, require_image
from isola.model.instance import Config, Devices, Instance
from isola.model.isolation import ISOLATIONS, type_of
from isola.model.names import plain_name
from isola.model.reference import Ref
from isola.operations import Operation
from isola.state import Versioned


@dataclass(frozen=True, slots=True)
class Destination:
    """The target of a move, and changes to make."""

    ref: Ref
    pool: str = ""
    """Empty: its current pool."""
    with_snapshots: bool = True
    """Otherwise they are lost."""
    config: Config = field(default_factory=dict)
    """Keys that override its own."""
    devices: Devices = field(default_factory=dict)
    profiles: tuple[str, ...] | None = None
    """None: its own."""
    isolation: str = ""
    """Empty: its current one, or that of ``runtime``."""
    runtime: str = ""
    """Empty: its current one, or the best one for ``isolation``."""

    @property
    def changes(self) -> bool:
        """Whether anything except its location changes."""
        return bool(self.config or self.devices or self.profiles is not None or self.isolation or self.runtime)


def check(context: Context, ref: Ref, to: Destination) -> Instance:
    """The new record. Raises NotFound, InvalidInput, AlreadyExists, WrongState, Forbidden."""
    instance = context.records.get(ref)
    require_kept(instance)
    if context.runs(instance):
        raise WrongState(f"Instance {ref.name!r} is running", remedy="stop it, move it and start it again")
    plain_name(to.ref.name)
    with naming("project"):
        context.projects.get(to.ref.project)
    if to.ref != ref and to.ref in context.records:
        raise AlreadyExists(f"Instance {to.ref.name!r} already exists", field="name", remedy="choose another name")
    pool = to.pool or pool_among(to.devices) or context.pool_name(instance)
    with naming("pool"):
        context.pools.get(pool)
    if (to.ref, pool) == (ref, context.pool_name(instance)) and not to.changes:
        raise InvalidInput(f"Instance {ref.name!r} is already in this pool", field="pool", remedy="name another pool")
    wanted = _wanted(context, instance, to, pool)
    if to.ref.project != ref.project and to.with_snapshots and snapshots_of(context, instance):
        context.permit_snapshot(to.ref.project)
    return wanted


def _wanted(context: Context, instance: Instance, to: Destination, pool: str) -> Instance:
    config = own_keys(to.config)
    volatile = (
        dict(instance.volatile) if to.ref.name == instance.name else facts_after(instance.volatile, instance.name)
    )
    isolation, runtime = _wall(context, instance, to)
    if to.isolation or to.runtime:
        config |= {ISOLATION: isolation if instance.config.get(ISOLATION) else ""}
    wanted = dataclasses.replace(
        instance,
        name=to.ref.name,
        type=type_of(isolation),
        isolation=isolation,
        runtime=runtime,
        project=to.ref.project,
        config={key: value for key, value in {**instance.config, **config}.items() if value},
        devices={**instance.devices, **to.devices},
        profiles=instance.profiles if to.profiles is None else to.profiles,
        start=start_in(context, instance, pool),
        volatile={**volatile, "root.pool": pool},
    )
    validate(wanted.config, wanted.devices)
    wanted = with_root(context, wanted, instance)
    wanted = dataclasses.replace(wanted, devices=devices_in(context, wanted, pool))
    allow(context, wanted, wanted)
    full, devices = expanded(context, wanted)
    require_config(context.runtimes, runtime, isolation, full)
    require_same(context, instance, runtime)
    size = kept_size(context, instance, runtime, devices, pool)
    return dataclasses.replace(wanted, volatile=with_size(wanted.volatile, size))


def _wall(context: Context, instance: Instance, to: Destination) -> tuple[str, str]:
    """Isolation and runtime. Raises NotFound, InvalidInput, Unsupported, DriverUnavailable."""
    isolation, runtime = to.isolation or instance.isolation, to.runtime
    if not runtime and isolation == instance.isolation:
        return isolation, instance.runtime
    if runtime and not to.isolation:
        with naming("runtime"):
            offered = context.runtimes.get(runtime).capabilities.isolations
        isolation = isolation if isolation in offered else min(offered)
    if isolation not in ISOLATIONS:
        raise InvalidInput(
            f"There is no isolation {isolation[:40]!r}", field="isolation", remedy=f"use {', '.join(ISOLATIONS)}"
        )
    if type_of(isolation) != instance.type:
        raise Unsupported(
            f"Isolation {isolation!r} needs another kind of root than that of {instance.name!r}",
            field="isolation",
            remedy=f"use {', '.join(each.name for each in ISOLATIONS.values() if each.type == instance.type)}",
        )
    require_image(isolation, unikernel=instance.start.kernel is not None)
    with naming("isolation"):
        return isolation, context.runtimes.choose(isolation, runtime or None)


async def move(context: Context, op: Operation, ref: Ref, to: Destination) -> None:
    """All data is copied before the record changes, and removed from the source afterwards."""
    check(context, ref, to)
    await repair_fault(context, op, ref)
    await finish_moves_of(context, op, context.records.get(ref).id)
    held, wanted = context.records.read(ref), check(context, ref, to)
    old = held.value
    await end_sessions(context, old)
    new = await refreshed(context, op, wanted, expanded(context, wanted)[1])
    op.if_undo_fails(lambda _: finish_later(context, old.id))
    intent = await announce(context, op, old, new, with_snapshots=to.with_snapshots)
    if intent is not None:
        await _copy(context, op, old, new, with_snapshots=to.with_snapshots)
    marks(context, op, old.id, (*plugs_of(context, new), *plugs_of(context, old)))
    await _register(context, op, old, new)
    try:
        await op.commit(lambda: _change_over(context, op, held, new))
        if intent is not None:
            await settle(context, op, intent)
        elif not to.with_snapshots:
            for snapshot in snapshots_of(context, new):
                await remove_snapshot(context, op, new, snapshot)
    finally:
        if op.committed and moves_of(context, old.id):
            finish_later(context, old.id)


async def _copy(context: Context, op: Operation, old: Instance, new: Instance, *, with_snapshots: bool) -> None:
    with op.step(f"Copy {old.name} to pool {context.pool_name(new)}"):
        await copy_root(context, op, old, None, new)
    for snapshot in snapshots_of(context, old) if with_snapshots else ():
        with op.step(f"Copy snapshot {snapshot.name}"):
            await copy_snapshot(context, op, old, snapshot.id, new, id=snapshot.id)


async def _register(context: Context, op: Operation, old: Instance, new: Instance) -> None:
    """Register devices under the new name and project, and write the new description."""
    if old.ref == new.ref:
        await context.devices.change(op, old, new, None)
    else:
        for plug in reversed(plugs_of(context, old)):
            await context.devices.driver(plug.state.kind).withdraw(op, plug, None)
        await context.devices.register(op, new)
    if context.pool_name(old) == context.pool_name(new):
        await describe_change(context, op, old, new)
        return
    descriptions = context.descriptions(context.pool_name(new))
    await op.effect(f"describe {new.name}", lambda: describe(context, new), undo=lambda: descriptions.remove(new.id))


async def _change_over(context: Context, op: Operation, held: Versioned[Instance], new: Instance) -> None:
    def permitted() -> None:
        context.permit([new])

    if held.value.ref == new.ref:
        await context.records.replace(new.ref, new, at=held.revision, allow=permitted)
    else:
        await context.records.rename(held.value.ref, new.ref, new, at=held.revision, allow=permitted)
    _tell(context, op, held.value, new)
    context.devices.forget(plugs_of(context, held.value), but=new)


def _tell(context: Context, op: Operation, old: Instance, new: Instance) -> None:
    if old.project != new.project:
        context.tell("deleted", old.ref, caller=op.caller)
        context.tell("created", new.ref, caller=op.caller, type=new.type)
    elif old.name != new.name:
        context.tell("renamed", new.ref, caller=op.caller, old_name=old.name)
    if (context.pool_name(old), old.runtime) != (context.pool_name(new), new.runtime):
        context.tell("updated", new.ref, caller=op.caller)
