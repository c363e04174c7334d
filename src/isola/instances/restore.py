"""Restore an instance from a snapshot: its root, configuration, devices and profiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from isola.errors import IsolaError
from isola.instances.context import Context
from isola.instances.describe import describe_change
from isola.instances.fault_repair import repair_fault
from isola.instances.files import end_sessions
from isola.instances.restoring import marked
from isola.instances.root_sizes import configured_size, size_to_be
from isola.instances.roots import devices_in
from isola.instances.saved import discard
from isola.instances.snapshot_records import find
from isola.instances.snapshot_states import adopt_state, prepare_state, require_state
from isola.instances.starting_again import start_again, start_later
from isola.instances.stop import Manner, halt
from isola.instances.update import allow, bring_to
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation
from isola.state import Versioned


def check(context: Context, ref: Ref, name: str, *, stateful: bool = False) -> Instance:
    """The new record. Raises NotFound, InvalidInput, WrongState, Forbidden, also for resources deleted meanwhile."""
    instance = context.records.get(ref)
    snapshot = find(context, instance, name)
    then = snapshot.instance
    if stateful:
        require_state(instance, snapshot)
    wanted = dataclasses.replace(
        instance,
        config=then.config,
        devices=then.devices,
        plugged={**instance.plugged, **context.devices.lasting(then.plugged)},
        profiles=then.profiles,
        description=then.description,
        ephemeral=then.ephemeral,
        architecture=then.architecture,
        start=dataclasses.replace(instance.start, templates=then.start.templates),
        facts=then.facts,
        root_config=then.root_config,
        root_description=then.root_description,
        notes=then.notes,
    )
    # The instance may have been moved since then.
    wanted = dataclasses.replace(wanted, devices=devices_in(context, wanted, context.pool_name(instance)))
    allow(context, instance, wanted)
    return wanted


async def restore(context: Context, op: Operation, ref: Ref, name: str, *, stateful: bool = False) -> None:
    """A running instance is killed, and started again afterwards, even if the restore fails.

    ``stateful``: it continues from what the snapshot has of its memory, also if it did not run.
    """
    check(context, ref, name, stateful=stateful)
    await repair_fault(context, op, ref)
    instance = context.records.get(ref)
    ran = context.runs(instance)
    try:
        if ran:
            await halt(context, op, ref, Manner(force=True), again=True)
            op.reopen()
        await _restore(context, op, ref, name, stateful=stateful)
    except BaseException:
        if ran:
            start_later(context, instance)
        raise
    context.tell("restored", ref, caller=op.caller, snapshot=name, **({"stateful": True} if stateful else {}))
    if ran or stateful:
        op.reopen()
        await start_again(context, op, ref)


async def _restore(context: Context, op: Operation, ref: Ref, name: str, *, stateful: bool) -> None:
    wanted = check(context, ref, name, stateful=stateful)
    held = context.records.read(ref)
    old, snapshot = held.value, find(context, held.value, name)
    await end_sessions(context, old)
    before = configured_size(context, old)
    size = await size_to_be(context, old, wanted, before)
    with op.step(f"Restore {name}"):
        volume = dataclasses.replace(context.volume(old), size=size)
        await context.storage(old).prepare_restore(op, volume, snapshot.id)
    new = await bring_to(context, op, held, wanted, before=before)
    await describe_change(context, op, old, new.value)
    await discard(context, old.id)  # what was in memory belongs to the files of now
    if stateful:
        await prepare_state(context, op, old, snapshot.id)

    def allow() -> None:
        context.permit([new.value])

    await op.commit(lambda: change_over(context, old, new, snapshot.id, allow=allow, memory=stateful))


async def change_over(
    context: Context,
    old: Instance,
    new: Versioned[Instance],
    snapshot: str,
    *,
    allow: Callable[[], object] = lambda: None,
    memory: bool = False,
) -> None:
    """After the first write a later daemon completes it; if the root cannot be changed, the record is reverted."""
    ref = old.ref
    wanted = marked(new.value, snapshot, memory=memory, generation=context.host.clock.uuid())
    await context.records.replace(ref, wanted, at=new.revision, allow=allow)
    try:
        await context.storage(old).apply_restore(context.volume(new.value), snapshot)
    except BaseException:
        await _take_back(context, old, new.value)
        raise
    context.devices.forget(context.devices.plugs(old), but=new.value)
    try:
        if memory:
            await adopt_state(context, new.value, snapshot, prepared=True)
        await context.records.change(ref, lambda found: marked(found, ""))
    except IsolaError as error:  # the next verb writes the record; changes to files until then are kept
        context.restored.add(old.id)
        context.fail(old.id, str(error))


async def _take_back(context: Context, old: Instance, new: Instance) -> None:
    """If the record cannot be reverted, the next verb or the next daemon completes the restore."""
    try:
        await context.records.change(old.ref, lambda _: old)
    except BaseException as error:
        context.fail(old.id, str(error), *context.devices.plugs(old))
        context.devices.forget(context.devices.plugs(old), but=new)
        raise
