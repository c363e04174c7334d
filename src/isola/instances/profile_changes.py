"""Apply a change of a profile to the instances that use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from isola.instances import update as update_verb
from isola.instances.context import Context, lock_of
from isola.model.caller import Caller
from isola.model.reference import Entity, Kind, Ref
from isola.operations import Operation

Write = Callable[[], Awaitable[object]]


async def profile_changed(context: Context, profile: Ref, record: Write, take_back: Write, caller: Caller) -> None:
    """Record a profile's change and apply it to all instances that use it, or to none."""
    while not await _follow(context, profile, record, take_back, caller):
        pass


async def _follow(context: Context, profile: Ref, record: Write, take_back: Write, caller: Caller) -> bool:
    """False if another instance has begun to use the profile while this waited: then it has to be locked as well."""
    users = _users_of(context, profile)
    missed: set[Ref] = set()

    async def work(op: Operation) -> None:
        now = _users_of(context, profile)
        missed.update(now - users)
        if not missed:
            await update_verb.follow(context, op, profile, users=sorted(now), write=record, take_back=take_back)

    operation = context.operations.start(
        "Updating profile",
        work,
        locks=[Entity.of(Kind.PROFILE, profile).lock, *map(lock_of, sorted(users))],
        resources=[Entity.of(Kind.PROFILE, profile)],
        caller=caller,
    )
    await context.operations.finish(operation)
    return not missed


def _users_of(context: Context, profile: Ref) -> set[Ref]:
    users = context.references.users(Entity.of(Kind.PROFILE, profile))
    return {user.ref for user in users if user.kind is Kind.INSTANCE}
