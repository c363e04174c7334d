"""Restore an instance from a snapshot: its root, configuration, devices and profiles."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import suppress

from isola.errors import IsolaError
from isola.host.cancellation import finish
from isola.instances.clean_up import record_stopped
from isola.instances.context import Context, Restart
from isola.instances.describe import describe_change
from isola.instances.files import end_sessions
from isola.instances.mend import mend
from isola.instances.restarts import schedule
from isola.instances.restoring import marked
from isola.instances.roots import devices_in
from isola.instances.saved import discard
from isola.instances.snapshot_records import find
from isola.instances.start import start
from isola.instances.stop import Manner, halt
from isola.instances.update import allow, bring_to, configured_size, size_to_be
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation
from isola.state import Versioned


def check(context: Context, ref: Ref, name: str) -> Instance:
    """The new record. Raises NotFound, InvalidInput, WrongState, Forbidden, also for resources deleted meanwhile."""
    instance = context.records.get(ref)
    then = find(context, instance, name).instance
    wanted = dataclasses.replace(
        instance,
        config=then.config,
        devices=then.devices,
        profiles=then.profiles,
        description=then.description,
        ephemeral=then.ephemeral,
        architecture=then.architecture,
        start=dataclasses.replace(instance.start, templates=then.start.templates),
        facts=then.facts,
        notes=then.notes,
    )
    # The instance may have been moved since then.
    wanted = dataclasses.replace(wanted, devices=devices_in(context, wanted, context.pool_name(instance)))
    allow(context, instance, wanted)
    return wanted


async def restore(context: Context, op: Operation, ref: Ref, name: str) -> None:
    """A running instance is killed, and started again afterwards, even if the restore fails."""
    check(context, ref, name)
    await mend(context, op, ref)
    instance = context.records.get(ref)
    ran = context.runs(instance)
    try:
        if ran:
            await halt(context, op, ref, Manner(force=True), again=True)
            op.reopen()
        await _restore(context, op, ref, name)
    except BaseException:
        if ran:
            _start_later(context, instance)
        raise
    context.tell("restored", ref, caller=op.caller, snapshot=name)
    if ran:
        op.reopen()
        await _start(context, op, ref)


def _start_later(context: Context, instance: Instance) -> None:
    """Start it in the background, if it is stopped and has no fault."""
    if instance.id not in context.live and instance.id not in context.faults:
        context.restarts[instance.id] = Restart(0)
        schedule(context, instance.id)


async def _start(context: Context, op: Operation, ref: Ref) -> None:
    try:
        await start(context, op, ref)
    except asyncio.CancelledError:
        _start_later(context, context.records.get(ref))
        raise
    except BaseException:
        if context.records.get(ref).id not in context.live:
            with suppress(IsolaError):  # the record makes the next daemon start it
                await finish(asyncio.ensure_future(record_stopped(context, ref)))
        raise


async def _restore(context: Context, op: Operation, ref: Ref, name: str) -> None:
    wanted = check(context, ref, name)
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
    await op.commit(lambda: change_over(context, old, new, snapshot.id, allow=lambda: context.permit([new.value])))


async def change_over(
    context: Context,
    old: Instance,
    new: Versioned[Instance],
    snapshot: str,
    *,
    allow: Callable[[], object] = lambda: None,
) -> None:
    """After the first write a later daemon completes it; if the root cannot be changed, the record is reverted."""
    ref = old.ref
    await context.records.replace(ref, marked(new.value, snapshot), at=new.revision, allow=allow)
    try:
        await context.storage(old).apply_restore(context.volume(new.value), snapshot)
    except BaseException:
        await _take_back(context, old, new.value)
        raise
    context.devices.forget(context.devices.plugs(old), but=new.value)
    try:
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
