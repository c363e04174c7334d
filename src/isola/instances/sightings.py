"""What is on the host of instances that no record or intent names."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from isola.errors import IsolaError
from isola.instances.context import Context
from isola.instances.half_made import BEGUN
from isola.instances.moving import MOVING
from isola.model.instance import Unknown

log = logging.getLogger(__name__)
_ANYWHERE = ""
"""In the place of a pool: it is being created or moved."""


async def seen(context: Context) -> dict[str, Unknown]:
    """By key. The records are compared with what the host has after it was listed."""
    pools = [pool.name for pool in context.pools if pool.ready and pool.name not in context.pools.closed]
    listed = {pool: await _volumes(context, pool) for pool in pools}
    traces = [(id, name) for name, runtime in context.runtimes.loaded() for id in await runtime.owned()]
    homes = _homes(context)
    found = [
        Unknown(id, pool)
        for pool, ids in listed.items()
        for id in ids
        if id not in homes or homes[id] not in {_ANYWHERE, pool}
    ]
    found = [await _described(context, each) for each in found]
    for id, name in traces:
        if id not in homes:
            runs = await context.runtimes.find(name).find(id) is not None
            if id not in {each.id for each in found}:
                found.append(Unknown(id))
            found = [_with_traces(each, name, runs) if each.id == id else each for each in found]
    return {each.key: each for each in found}


def _with_traces(unknown: Unknown, runtime: str, runs: bool) -> Unknown:
    return Unknown(unknown.id, unknown.pool, runtime, runs or unknown.running, unknown.instance)


def _homes(context: Context) -> Mapping[str, str]:
    """The pool of every instance that a record or an intent names, by id."""
    homes = {instance.id: instance.volatile.get("root.pool") or _ANYWHERE for instance in context.records}
    homes |= {intent.id: _ANYWHERE for intent in context.intents.of_kind(BEGUN)}
    return homes | {intent.facts.get("instance", ""): _ANYWHERE for intent in context.intents.of_kind(MOVING)}


async def _volumes(context: Context, pool: str) -> tuple[str, ...]:
    try:
        descriptions = context.descriptions(pool)
        if not descriptions.loaded:
            await descriptions.load()
        return await context.pools.driver(pool).volumes()
    except IsolaError as error:
        log.error("Storage pool %s: %s", pool, error)
        return ()


async def _described(context: Context, unknown: Unknown) -> Unknown:
    described = await context.descriptions(unknown.pool).read(unknown.id)
    return Unknown(
        unknown.id, unknown.pool, instance=described if described is not None and described.id == unknown.id else None
    )
