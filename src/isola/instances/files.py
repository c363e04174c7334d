"""An instance's files, running or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from isola.errors import WrongState
from isola.host.files import Root
from isola.instances.context import Context
from isola.model.instance import Instance


@asynccontextmanager
async def root(context: Context, instance: Instance) -> AsyncIterator[Root]:
    """What the instance sees as ``/``; a stopped instance's root is mounted for as long as this lasts.

    Raises WrongState also where its first process has ended and has not been cleaned up after yet.
    """
    if instance.deleting:
        raise WrongState(f"Instance {instance.name!r} is half deleted", remedy="delete it again")
    live, files = context.live.get(instance.id), context.host.files
    async with AsyncExitStack() as stack:
        if live is None:
            directory = await stack.enter_async_context(context.storage(instance).visit(context.volume(instance)))
            yield await stack.enter_async_context(files.root(directory, idmap=instance.idmap))
            return
        try:
            seen = await stack.enter_async_context(live.guest.files())
        except WrongState as error:
            remedy = "try again when it has stopped"
            raise WrongState(f"Instance {instance.name!r} has just ended", remedy=remedy) from error
        yield seen
