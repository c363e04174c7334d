"""The version before the previous one: out of the way while versions are switched, and removed afterwards."""

from __future__ import annotations

import logging

from isola.errors import IsolaError
from isola.instances.context import Context
from isola.instances.deploy.candidate import remove_now
from isola.instances.deploy.parts import Attempt, step
from isola.instances.remove import doom
from isola.instances.rename import rename
from isola.instances.stop import Manner, halt
from isola.instances.volatile import SERVES
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation
from isola.state import Intent, Versioned

_ID, _NAME = "aside", "name-of-aside"
log = logging.getLogger(__name__)


def facts_of(other: Instance | None) -> dict[str, str]:
    """For the intent: by these the next daemon gives it its name back."""
    return {_ID: other.id, _NAME: other.name} if other is not None else {}


async def set_aside(attempt: Attempt, other: Instance) -> None:
    """Its name is free for the version that serves now; a rollback gives it back."""
    context, old, new = attempt.context, other.ref, attempt.names.aside
    if old == new:
        return
    if context.runs(other):
        await attempt.step(old, "Stopping a version", lambda op: halt(context, op, old, Manner(force=True)))

    async def back() -> None:
        if new in context.records:
            await attempt.step(new, "Renaming a version", lambda op: rename(context, op, new, old.name))

    attempt.op.on_rollback(f"name of {other.name}", back)
    await attempt.step(old, "Renaming a version", lambda op: rename(context, op, old, new.name))


def doomed(context: Context, other: Instance | None) -> dict[Ref, tuple[Ref, Versioned[Instance]]]:
    """What the commit of the switch changes in its record: the next daemon finishes the removal."""
    found = context.by_id(other.id) if other is not None else None
    if found is None:
        return {}
    held = context.records.read(found.ref)
    return {found.ref: (found.ref, Versioned(doom(held.value), held.revision))}


async def remove_aside(attempt: Attempt, other: Instance) -> None:
    """After the commit. A failure is a warning: its deletion, or the next daemon, tries again."""
    found = attempt.context.by_id(other.id)
    if found is None:
        return
    with attempt.op.step(f"Remove {found.name}"):
        try:
            await attempt.step(found.ref, "Removing a version", lambda op: remove_now(attempt.context, op, found.ref))
        except IsolaError as error:
            log.error("The former version %s could not be removed: %s", found.name, error)
            attempt.op.warnings.append(f"{found.name} could not be removed: {error.message}")


def half_removed(context: Context, ref: Ref, serving: str) -> bool:
    """Whether it is a former version of the instance with this name that ``remove_aside`` could not remove."""
    found = context.records.find(ref)
    return found is not None and found.deleting and found.volatile.get(SERVES) == serving


async def finish_removal(attempt: Attempt) -> None:
    """Remove the one that an earlier deployment could not; no effect if there is none."""
    names = attempt.names
    if half_removed(attempt.context, names.aside, names.serving.name):
        await attempt.step(names.aside, "Removing a version", lambda op: remove_now(attempt.context, op, names.aside))


async def give_name_back(context: Context, op: Operation, intent: Intent) -> None:
    """No effect if it has its name, or another instance has it."""
    found, name = context.by_id(intent.facts.get(_ID, "")), intent.facts.get(_NAME, "")
    if found is None or found.deleting or found.ref.renamed(name) in context.records:
        return
    await step(context, op, found.ref, "Renaming a version", lambda inner: rename(context, inner, found.ref, name))
