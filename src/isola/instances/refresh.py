"""Refresh a stopped copy: its files, templates and snapshots become those of its origin."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from isola.errors import InvalidInput, Unsupported, WrongState
from isola.instances.context import Context
from isola.instances.copy import Source, bring_snapshot
from isola.instances.fault_repair import marks, repair_fault
from isola.instances.files import end_sessions
from isola.instances.restore import change_over
from isola.instances.roots import moment, prepare_refresh, shares_layers
from isola.instances.snapshot import remove as remove_snapshot
from isola.instances.snapshot import remove_half_made
from isola.instances.snapshot_records import find, snapshots_of
from isola.instances.templates import OLD_NAME, PENDING
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.model.snapshot import InstanceSnapshot
from isola.operations import Operation
from isola.state import Versioned


def check(context: Context, source: Source, ref: Ref) -> None:
    """Raises NotFound, InvalidInput, WrongState, Unsupported, Forbidden."""
    origin, copy = context.records.get(source.ref), context.records.get(ref)
    if source.snapshot:
        find(context, origin, source.snapshot)
    if origin.id == copy.id:
        raise InvalidInput("An instance cannot be refreshed from itself", field="source.source")
    for each in (origin, copy):
        if each.deleting:
            raise WrongState(f"Instance {each.name!r} is partly deleted", remedy="delete it again")
    if context.runs(copy):
        raise WrongState(f"Instance {ref.name!r} is running", remedy="stop it first")
    pool, shares = context.pool_name(copy), context.storage(copy).capabilities.shared_layers
    if shares and copy.start.layers and not shares_layers(context, origin, copy):
        raise Unsupported(
            f"Instance {ref.name!r} cannot be refreshed from {origin.name!r}",
            evidence=f"in pool {pool!r} they depend on different image layers",
            remedy="delete it and copy again",
        )
    missing, _ = _differing(context, source, origin, copy)
    if missing:
        context.permit_snapshot(ref.project)


def _differing(
    context: Context, source: Source, origin: Instance, copy: Instance
) -> tuple[Sequence[InstanceSnapshot], Sequence[InstanceSnapshot]]:
    """Snapshots of the origin that the copy lacks, and surplus ones of the copy, compared by name and time."""
    if source.snapshot or not source.with_snapshots:
        return (), ()
    theirs = {(each.name, each.created_at): each for each in snapshots_of(context, origin)}
    ours = {(each.name, each.created_at): each for each in snapshots_of(context, copy)}
    return (
        [each for key, each in theirs.items() if key not in ours],
        [each for key, each in ours.items() if key not in theirs],
    )


async def refresh(context: Context, op: Operation, source: Source, ref: Ref) -> None:
    """Each snapshot is complete or does not exist, and the root is replaced atomically. Configuration is not
    changed.
    """
    check(context, source, ref)
    await repair_fault(context, op, source.ref)
    await repair_fault(context, op, ref)
    check(context, source, ref)
    origin, copy = context.records.get(source.ref), context.records.get(ref)
    await end_sessions(context, copy)
    await remove_half_made(context, op, copy)
    missing, outdated = _differing(context, source, origin, copy)
    taken = {each.name for each in outdated}
    for snapshot in missing:
        if snapshot.name not in taken:
            await _bring(context, op, origin, copy, snapshot)
    await _replace_root(context, op, source, ref)
    for snapshot in outdated:
        await remove_snapshot(context, op, copy, snapshot)
    op.reopen()
    for snapshot in missing:
        if snapshot.name in taken:
            await _bring(context, op, origin, copy, snapshot)
    context.tell("updated", ref, caller=op.caller)


async def _bring(context: Context, op: Operation, origin: Instance, copy: Instance, snapshot: InstanceSnapshot) -> None:
    marks(context, op, copy.id)
    with op.step(f"Copy snapshot {snapshot.name}"):
        brought = await bring_snapshot(context, op, origin, copy, snapshot, ready=False)
    await op.commit(lambda: context.snapshots.change(brought.key, lambda found: dataclasses.replace(found, ready=True)))
    op.reopen()


async def _replace_root(context: Context, op: Operation, source: Source, ref: Ref) -> None:
    """Change what differs in the root, all at once. The next daemon completes what has begun to take effect."""
    origin, held = context.records.get(source.ref), context.records.read(ref)
    copy, id = held.value, context.host.clock.token(16)
    marks(context, op, copy.id)
    with op.step(f"Copy {origin.name}"):
        if source.snapshot:
            then = find(context, origin, source.snapshot).id
            await prepare_refresh(context, op, origin, then, copy, id=id)
        else:
            async with moment(context, op, origin, context.pool_name(copy)) as passing:
                await prepare_refresh(context, op, origin, passing, copy, id=id)
    # The files contain the host name of the origin.
    volatile = {**copy.volatile, PENDING: "copy", OLD_NAME: origin.name}
    original = find(context, origin, source.snapshot).instance if source.snapshot else origin
    start = dataclasses.replace(copy.start, templates=original.start.templates)
    wanted = dataclasses.replace(
        copy,
        volatile=volatile,
        start=start,
        facts=original.facts,
        root_config=original.root_config,
        root_description=original.root_description,
    )
    new = Versioned(wanted, held.revision)
    await op.commit(lambda: change_over(context, copy, new, id))
    op.reopen()
