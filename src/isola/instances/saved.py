"""Saved states: what an instance had in memory when it was stopped with it, in files until its next start.

Whether there is one is known from the files: the marker gets its name when all others are durable, and loses it right
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


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of one state."""

    path: Path

    @property
    def images(self) -> Path:
        """What the runtime has saved."""
        return self.path / _IMAGES

    async def make(self, context: Context, runtime: str) -> None:
        """An empty one, in the place of what is there."""
        files = context.host.files
        await files.remove_tree(self.path, flush=(self.path.parent,))
        await files.make_directory(self.path.parent, self.path, self.images, mode=0o700)
        # The marker takes its room now, so that a full disk does not fail the last step.
        await files.write(self.path / _MAKING, json.dumps({"runtime": runtime}).encode())
        await files.flush(self.path, self.path.parent, context.directory)

    async def mark(self, context: Context) -> None:
        """It is complete."""
        await self.turn(context, _MAKING, _SAVED)

    async def turn(self, context: Context, old: str, new: str) -> None:
        """Rename the marker, durably."""
        await context.host.files.rename(self.path / old, self.path / new)
        await context.host.files.flush(self.path)

    async def is_marked(self, context: Context) -> bool:
        """Whether it is complete and was not used."""
        return await context.host.files.exists(self.path / _SAVED)

    async def drop(self, context: Context) -> None:
        """Remove it, unless it is complete."""
        if not await self.is_marked(context):
            await context.host.files.remove_tree(self.path)


def place_of(context: Context, id: str) -> Place:
    """That of an instance's own state."""
    return Place(context.directory / PLACE / id)


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
    place = place_of(context, instance.id)

    async def make() -> None:
        context.saved.discard(instance.id)
        await place.make(context, instance.runtime)

    async def mark() -> None:
        await place.mark(context)
        context.saved.add(instance.id)

    await op.effect(f"make room for the state of {instance.name}", make, undo=lambda: place.drop(context))
    await op.effect(f"save state of {instance.name}", lambda: guest.checkpoint(place.images))
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
    await _look(context, instance)
    if instance.id not in context.saved:
        if wanted:
            raise WrongState(f"Instance {instance.name!r} has no saved state", remedy="start it without stateful")
        return None
    place = place_of(context, instance.id)
    runtime = await _runtime_of(context, instance)
    if wanted is not False and runtime != instance.runtime:
        raise WrongState(
            f"The state of instance {instance.name!r} was saved by runtime {runtime!r}",
            remedy=f"start it without its state, or move it back to {runtime}",
        )

    op.on_rollback(f"look at state of {instance.name}", lambda: _look(context, instance))
    state = Restore(
        place.images,
        spend=lambda: place.turn(context, _SAVED, _USED),
        take_back=lambda: place.turn(context, _USED, _SAVED),
    )
    return Saved(state, wanted is not False)


async def _look(context: Context, instance: Instance) -> None:
    if instance.id in context.saved and not await place_of(context, instance.id).is_marked(context):
        log.warning("The saved state of instance %s was used by a start that failed, and is lost", instance.name)
        await discard(context, instance.id)


async def discard(context: Context, id: str) -> None:
    """Remove a saved state; no effect if there is none."""
    context.saved.discard(id)
    place = place_of(context, id).path
    await context.host.files.remove_tree(place, flush=(place.parent,))


async def forget_state(context: Context, instance: Instance) -> None:
    """It runs: the state from which it continued, or which was not wanted, is removed, now or by the next daemon."""
    if instance.id not in context.saved:
        return
    try:
        await discard(context, instance.id)
    except IsolaError as error:
        log.warning("The saved state of instance %s is left: %s", instance.name, error)


async def _runtime_of(context: Context, instance: Instance) -> str:
    marker = place_of(context, instance.id).path / _SAVED
    try:
        return str(json.loads(await context.host.files.read(marker, 4096))["runtime"])
    except (NotFound, ValueError, KeyError, TypeError):
        return ""
