"""Roots of instances and their snapshots, copied within a pool, or to another one with all that they hold."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from isola.errors import InvalidInput, IsolaError
from isola.host.cancellation import finish
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.expand import root_name
from isola.instances.still import still
from isola.model.instance import Devices, Instance, Start
from isola.model.snapshot import InstanceSnapshot
from isola.operations import Operation


def start_in(context: Context, origin: Instance, pool: str) -> Start:
    """How a copy of ``origin`` is started in this pool: what comes from another pool is whole, and needs no layers."""
    if pool == context.pool_name(origin):
        return origin.start
    return dataclasses.replace(origin.start, layers=(), blobs=())


def devices_in(context: Context, instance: Instance, pool: str) -> Devices:
    """Its own devices with the root in this pool: one that a profile gives becomes its own, where it is another."""
    _, devices = expanded(context, instance)
    try:
        name = root_name(devices)
    except InvalidInput:  # its profiles say nothing of a root by now: what is done with it raises that
        return instance.devices
    if devices[name]["pool"] == pool:
        return instance.devices
    root: Mapping[str, str] = {**devices[name], "pool": pool}
    return {**instance.devices, name: root}


async def copy_root(context: Context, op: Operation, origin: Instance, snapshot: str | None, made: Instance) -> None:
    """Make the root of ``made``, whose record names its pool, with what the origin's, or a snapshot of it, holds."""
    old, new, driver = context.volume(origin), context.volume(made), context.storage(made)
    if old.pool == new.pool:
        await driver.clone_volume(op, new, old, snapshot)
        return
    async with context.storage(origin).contents(old, snapshot, driver.ids_of(new)) as tree:
        await driver.fill_volume(op, new, tree)


async def copy_snapshot(
    context: Context, op: Operation, origin: Instance, snapshot: str | None, made: Instance, *, id: str
) -> None:
    """Make a snapshot of the root of ``made`` with what the origin's, or a snapshot of it, holds."""
    old, new, driver = context.volume(origin), context.volume(made), context.storage(made)
    if old.pool == new.pool:
        await driver.clone_snapshot(op, new, id, old, snapshot)
        return
    async with context.storage(origin).contents(old, snapshot, driver.ids_of(new)) as tree:
        await driver.fill_snapshot(op, new, id, tree)


@asynccontextmanager
async def moment(context: Context, op: Operation, origin: Instance, pool: str) -> AsyncIterator[str | None]:
    """What to copy of an instance as it is now: a snapshot's id, or None for itself, which then stands still.

    To another pool all is copied: it stands still for that only where its own pool cannot take an instant snapshot.
    """
    driver, volume = context.storage(origin), context.volume(origin)
    if origin.id not in context.live or pool == volume.pool or not driver.capabilities.instant_copies:
        async with still(context, op, origin):
            yield None
        return
    token, now = context.host.clock.token(16), context.host.clock.now()
    passing = InstanceSnapshot(token, f"copying-{token}", now, origin, ready=False)

    async def forget() -> None:
        # One that stays is removed by the next snapshot of the instance, or by the next daemon: it is recorded.
        if passing.id not in await driver.snapshots(volume):
            await context.snapshots.remove(passing.key)

    await op.effect("record passing snapshot", lambda: context.snapshots.add(passing.key, passing), undo=forget)
    try:
        async with still(context, op, origin):
            await driver.create_snapshot(op, volume, passing.id)
        yield passing.id
    finally:
        with suppress(IsolaError):
            await finish(asyncio.ensure_future(_drop(context, origin, passing)))


async def _drop(context: Context, origin: Instance, passing: InstanceSnapshot) -> None:
    await context.storage(origin).drop_snapshot(context.volume(origin), passing.id)
    await context.snapshots.remove(passing.key)
