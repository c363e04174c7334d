"""Background operations of the daemon on an instance, which wait until no other operation works on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from isola.instances.context import Context, entity_of, lock_of
from isola.model.reference import Ref
from isola.operations import Operation


async def when_idle(
    context: Context,
    id: str,
    description: str,
    work: Callable[[Operation, Ref], Awaitable[object]],
    *,
    wanted: Callable[[], bool],
) -> Operation | None:
    """Run ``work(op, ref)`` with the name that the instance has then; returns the completed operation.

    None if it is not ``wanted`` any more then, or the instance was deleted.
    """
    while wanted() and (instance := context.by_id(id)) is not None:
        lock = lock_of(instance.ref)
        holder = context.operations.holder(lock)
        if holder is not None:  # not in the queue: the instance may have another name afterwards
            await holder.wait()
            continue
        operation = context.operations.start(
            description,
            partial(_named, work, instance.ref),
            locks=[lock],
            resources=[entity_of(instance.ref)],
        )
        await operation.wait()
        return operation
    return None


async def _named(work: Callable[[Operation, Ref], Awaitable[object]], ref: Ref, op: Operation) -> None:
    await work(op, ref)
