"""Saved states: what an instance had in memory when it was stopped with it, in files until its next start.

Whether there is one is said by the files: the marker gets its name when all others are durable, and loses it before the
programs continue, because their state must not be used again: their files change from then on.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from isola.errors import IsolaError, NotFound, WrongState
from isola.instances.context import Context
from isola.model.instance import Instance
from isola.operations import Operation
from isola.runtimes import Guest

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


async def use(context: Context, op: Operation, instance: Instance, *, wanted: bool | None) -> Path | None:
    """The state from which it continues, or None; with ``wanted`` False a saved one is not used.

    Raises WrongState if ``wanted`` is True and there is none, or if another runtime has saved it.
    """
    files, place = context.host.files, _place(context, instance.id)
    if instance.id in context.saved and not await files.exists(place / _SAVED):
        # A failed start could not be undone, and its programs may have changed files.
        log.warning("The saved state of instance %s was used by a start that failed, and is lost", instance.name)
        await discard(context, instance.id)
    if instance.id not in context.saved:
        if wanted:
            raise WrongState(f"Instance {instance.name!r} has no saved state", remedy="start it without stateful")
        return None
    if wanted is False:
        return None
    runtime = await _runtime_of(context, instance)
    if runtime != instance.runtime:
        raise WrongState(
            f"The state of instance {instance.name!r} was saved by runtime {runtime!r}",
            remedy=f"start it without its state, or move it back to {runtime}",
        )
    await op.effect(
        f"use state of {instance.name}",
        lambda: files.rename(place / _SAVED, place / _USED),
        undo=lambda: files.rename(place / _USED, place / _SAVED),
    )
    await files.flush(place)
    return place / _IMAGES


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
