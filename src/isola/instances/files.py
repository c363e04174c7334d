"""An instance's files, running or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from isola.errors import Conflict, WrongState
from isola.host.files import Root
from isola.instances.context import Context
from isola.instances.phases import require_kept
from isola.model.instance import Instance

_SESSIONS = 128
"""Maximum number of clients that stay connected to files, of all instances together."""
_OF_PROJECT = 64
"""The same, of one project: its clients leave room for those of others."""
_LEAVE_SECONDS = 5.0


@dataclass(eq=False, slots=True)
class FilesSession:
    """A client that stays connected to an instance's files."""

    root: Root
    over: asyncio.Event
    """Set when the instance starts, stops or is deleted, because its root changes then."""


@asynccontextmanager
async def session(context: Context, instance: Instance) -> AsyncIterator[FilesSession]:
    """Like ``root``, until ``over``. Raises WrongState, and Conflict when too many clients are connected."""
    if len(context.file_sessions) >= _SESSIONS:
        raise Conflict(f"{_SESSIONS} clients are connected to files of instances", remedy="disconnect one of them")
    ids = {each.id for each in context.records if each.project == instance.project}
    if sum(id in ids for id, _ in context.file_sessions.values()) >= _OF_PROJECT:
        raise Conflict(
            f"{_OF_PROJECT} clients are connected to files of instances of project {instance.project!r}",
            remedy="disconnect one of them",
        )
    live = context.live.get(instance.id)
    over = asyncio.Event() if live is None else live.ended
    left = asyncio.Event()
    context.file_sessions[left] = (instance.id, over)
    try:
        async with root(context, instance) as found:
            yield FilesSession(found, over)
    finally:
        del context.file_sessions[left]
        left.set()


async def end_sessions(context: Context, instance: Instance) -> None:
    """Before a stopped instance is started or deleted: close other users of its root."""
    held = [(left, over) for left, (id, over) in context.file_sessions.items() if id == instance.id]
    for _, over in held:
        over.set()
    with suppress(TimeoutError):
        async with asyncio.timeout(_LEAVE_SECONDS):
            for left, _ in held:
                await left.wait()


@asynccontextmanager
async def root(context: Context, instance: Instance) -> AsyncIterator[Root]:
    """The instance's root file system; that of a stopped instance is mounted within this context.

    Also raises WrongState if its first process has ended and is not cleaned up yet.
    """
    require_kept(instance)
    live, files = context.live.get(instance.id), context.host.files
    async with AsyncExitStack() as stack:
        if live is None:
            directory = await stack.enter_async_context(context.storage(instance).visit(context.volume(instance)))
            yield await stack.enter_async_context(files.root(directory, idmap=instance.idmap))
            return
        try:
            seen = await stack.enter_async_context(live.guest.files())
        except WrongState as error:
            if await context.runtime(instance).find(instance.id) is not None:
                raise  # it runs, but nothing inside answers
            remedy = "try again when it has stopped"
            raise WrongState(f"Instance {instance.name!r} has just ended", remedy=remedy) from error
        yield seen
