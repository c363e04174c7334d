"""An instance's files, running or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isola.errors import WrongState
from isola.host.files import Root
from isola.instances.context import Context
from isola.model.instance import Instance


@asynccontextmanager
async def root(context: Context, instance: Instance) -> AsyncIterator[Root]:
    """What the instance sees as ``/``; a stopped instance's root is mounted for as long as this lasts."""
    if instance.deleting:
        raise WrongState(f"Instance {instance.name!r} is half deleted", remedy="delete it again")
    live = context.live.get(instance.id)
    if live is not None:
        async with context.host.files.root(pid=live.running.init.pid, idmap=instance.idmap) as files:
            yield files
        return
    storage = context.storage(instance)
    async with (
        storage.visit(context.volume(instance)) as directory,
        context.host.files.root(directory, idmap=instance.idmap) as files,
    ):
        yield files
