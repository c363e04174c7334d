"""Rename an instance; its id, addresses and data stay, and while it runs its host name, too."""

from __future__ import annotations

import dataclasses

from isola.errors import AlreadyExists, WrongState
from isola.instances.context import Context
from isola.instances.describe import describe_change
from isola.instances.fault_repair import marks, repair_fault
from isola.instances.identity import plugs_of
from isola.instances.phases import require_kept
from isola.instances.templates import renamed as facts_after
from isola.model.names import plain_name
from isola.model.reference import Ref
from isola.operations import Operation


def check(context: Context, ref: Ref, new: str, *, running: bool = False) -> None:
    """``running``: whether it may be. Raises NotFound, InvalidInput, AlreadyExists, WrongState."""
    instance = context.records.get(ref)
    plain_name(new)
    if ref.renamed(new) in context.records:
        raise AlreadyExists(f"Instance {new!r} already exists", field="name", remedy="choose another name")
    require_kept(instance)
    if instance.id in context.live and not running:
        raise WrongState(f"Instance {ref.name!r} is running", remedy="stop it, rename it and start it again")


async def rename(context: Context, op: Operation, ref: Ref, new: str, *, running: bool = False) -> None:
    """Register the new name on the networks, then move the record."""
    check(context, ref, new, running=running)
    await repair_fault(context, op, ref)
    held = context.records.read(ref)
    old = held.value
    renamed = dataclasses.replace(old, name=new, volatile=facts_after(old.volatile, ref.name))
    marks(context, op, old.id, plugs_of(context, renamed))
    await context.devices.rename(op, old, renamed)
    await describe_change(context, op, old, renamed)
    await op.commit(lambda: context.records.rename(ref, renamed.ref, renamed, at=held.revision))
    context.tell("renamed", renamed.ref, caller=op.caller, old_name=ref.name)
