"""Saved states: what an instance had in memory when it was stopped with it, in files until its next start.

Whether there is one is said by the files: the marker gets its name when all others are durable, and loses it right
before programs run, because the state must not be used again: the files that it depends on change from then on.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from isola.errors import IsolaError, NotFound, WrongState
from isola.instances.context import Context
from isola.model.instance import Instance
from isola.operations import Operation
from isola.runtimes import Guest, Restore

log = logging.getLogger(__name__)
PLACE = "states"
"""Directory in that of the daemon. Memory contains secrets: only root can enter it."""
_IMAGES = "images"
_MAKING, _SAVED, _USED = "making", "saved", "used"
"""Names of the marker."""


async def find_saved(context: Context) -> None:
    """At the start of the daemon: remains of incomplete or used states are removed."""
    files, place = context.host.files, context.directory / PLACE
    for id in await files.names(place):
        if _SAVED in await files.names(place / id):
            context.saved.add(id)
        elif context.by_id(id) is not None:
            await files.remove_tree(place / id)


async def keep(context: Context, op: Operation, instance: Instance, guest: Guest) -> None:
    """Save its state, which ends it. Raises HostFailure, WrongState, Unsupported."""
    files, place = context.host.files, _place(context, instance.id)

    async def make() -> None:
        await discard(context, instance.id)
        await files.make_directory(context.directory / PLACE, place, place / _IMAGES, mode=0o700)
        # The marker takes its room now, so that a full disk does not fail the last step.
        await files.write(place / _MAKING, json.dumps({"runtime": instance.runtime}).encode())
        await files.flush(place, place.parent, context.directory)

    async def drop() -> None:
        if not await files.exists(place / _SAVED):
            await files.remove_tree(place)

    async def mark() -> None:
        await files.rename(place / _MAKING, place / _SAVED)
        await files.flush(place)
        context.saved.add(instance.id)

    await op.effect(f"make room for the state of {instance.name}", make, undo=drop)
    await op.effect(f"save state of {instance.name}", lambda: guest.checkpoint(place / _IMAGES))
    await op.effect(f"keep state of {instance.name}", mark)


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved state before a start, which uses it up from the moment on at which programs run."""

    state: Restore
    wanted: bool
    """Whether it continues from it."""


async def use(context: Context, op: Operation, instance: Instance, *, wanted: bool | None) -> Saved | None:
    """The state that it has, or None; with ``wanted`` False it does not continue from it.

    If the start fails after its programs ran, the state is lost, because they may have changed files; else it is kept.
    Raises WrongState if ``wanted`` is True and there is none, or if another runtime has saved it.
    """
    if instance.id not in context.saved:
        if wanted:
            raise WrongState(f"Instance {instance.name!r} has no saved state", remedy="start it without stateful")
        return None
    files, place = context.host.files, _place(context, instance.id)
    runtime = await _runtime_of(context, instance)
    if wanted is not False and runtime != instance.runtime:
        raise WrongState(
            f"The state of instance {instance.name!r} was saved by runtime {runtime!r}",
            remedy=f"start it without its state, or move it back to {runtime}",
        )

    async def rename(old: str, new: str) -> None:
        await files.rename(place / old, place / new)
        await files.flush(place)

    async def look() -> None:
        if not await files.exists(place / _SAVED):
            log.warning("The saved state of instance %s was used by a start that failed, and is lost", instance.name)
            await discard(context, instance.id)

    op.on_rollback(f"look at state of {instance.name}", look)
    state = Restore(place / _IMAGES, spend=lambda: rename(_SAVED, _USED), take_back=lambda: rename(_USED, _SAVED))
    return Saved(state, wanted is not False)


async def discard(context: Context, id: str) -> None:
    """Remove a saved state; no effect if there is none."""
    context.saved.discard(id)
    place = _place(context, id)
    await context.host.files.remove_tree(place, flush=(place.parent,))


async def forget_state(context: Context, instance: Instance) -> None:
    """It runs: the state from which it continued, or which was not wanted, is removed, now or by the next daemon."""
    if instance.id not in context.saved:
        return
    try:
        await discard(context, instance.id)
    except IsolaError as error:
        log.warning("The saved state of instance %s is left: %s", instance.name, error)


def _place(context: Context, id: str) -> Path:
    return context.directory / PLACE / id


async def _runtime_of(context: Context, instance: Instance) -> str:
    try:
        return str(json.loads(await context.host.files.read(_place(context, instance.id) / _SAVED, 4096))["runtime"])
    except (NotFound, ValueError, KeyError, TypeError):
        return ""
