"""Copying roots of instances and their snapshots, within a pool or completely to another one."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

from isola.errors import InvalidInput, IsolaError
from isola.host.cancellation import finish
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.expand import root_name
from isola.instances.quiesce import quiesced
from isola.model.instance import Devices, Instance, Start
from isola.model.snapshot import InstanceSnapshot
from isola.operations import Operation


def start_in(context: Context, origin: Instance, pool: str) -> Start:
    """The start properties of a copy of ``origin`` in this pool: copies from most other pools need no layers."""
    drivers = context.storage(origin), context.pools.driver(pool)
    if pool == context.pool_name(origin) or all(driver.capabilities.shared_layers for driver in drivers):
        return origin.start
    return dataclasses.replace(origin.start, layers=(), blobs=())


def devices_in(context: Context, instance: Instance, pool: str) -> Devices:
    """Its own devices with the root in this pool: a root from a profile becomes its own device if the pool differs."""
    _, devices = expanded(context, instance)
    try:
        name = root_name(devices)
    except InvalidInput:  # its profiles have no root any more: reported by the following validation
        return instance.devices
    if devices[name]["pool"] == pool:
        return instance.devices
    root: Mapping[str, str] = {**devices[name], "pool": pool}
    return {**instance.devices, name: root}


def with_root(context: Context, wanted: Instance, before: Instance) -> Instance:
    """With the root that it had before as a device of its own, where its profiles give it none any more."""
    _, devices = expanded(context, wanted)
    _, old = expanded(context, before)
    if any(_is_root(device) for device in devices.values()):
        return wanted
    named = root_name(old)
    free = next(
        name for name in (named, *(f"root{number}" for number in range(len(devices) + 1))) if name not in devices
    )
    return dataclasses.replace(wanted, devices={**wanted.devices, free: old[named]})


def pool_among(devices: Devices) -> str:
    """The pool of the root among own devices; empty if none of them is one, or names its pool."""
    return next((device.get("pool", "") for device in devices.values() if _is_root(device)), "")


def _is_root(device: Mapping[str, str]) -> bool:
    return device.get("type") == "disk" and device.get("path") == "/"


async def copy_root(context: Context, op: Operation, origin: Instance, snapshot: str | None, made: Instance) -> None:
    """Create the root of ``made``, in the pool of its record, as a copy of the origin's root or of a snapshot."""
    old, new, driver = context.volume(origin), context.volume(made), context.storage(made)
    if old.pool == new.pool:
        await driver.clone_volume(op, new, old, snapshot)
        return
    if shares_layers(context, origin, made):
        await driver.layers.bring(op, new.layers, context.storage(origin).layers)
    async with _shown(context, origin, snapshot, made) as tree:
        await driver.fill_volume(op, new, tree)


async def copy_snapshot(
    context: Context, op: Operation, origin: Instance, snapshot: str | None, made: Instance, *, id: str
) -> None:
    """Make a snapshot of the root of ``made`` with what the origin's, or a snapshot of it, holds."""
    old, new, driver = context.volume(origin), context.volume(made), context.storage(made)
    if old.pool == new.pool:
        await driver.clone_snapshot(op, new, id, old, snapshot)
        return
    async with _shown(context, origin, snapshot, made) as tree:
        await driver.fill_snapshot(op, new, id, tree)


async def prepare_refresh(
    context: Context, op: Operation, origin: Instance, snapshot: str | None, made: Instance, *, id: str
) -> None:
    """Prepare the root of ``made`` to become what the origin's, or a snapshot of it, is; see ``prepare_refresh``."""
    old, new, driver = context.volume(origin), context.volume(made), context.storage(made)
    async with _shown(context, origin, snapshot, made) as tree:
        await driver.prepare_refresh(op, new, id, tree, same_pool=old.pool == new.pool)


def shares_layers(context: Context, origin: Instance, made: Instance) -> bool:
    """Whether the roots of both are on the same layers, so that only what is above them is copied."""
    drivers = context.storage(origin), context.storage(made)
    return origin.start.layers == made.start.layers and all(each.capabilities.shared_layers for each in drivers)


def _shown(
    context: Context, origin: Instance, snapshot: str | None, made: Instance
) -> AbstractAsyncContextManager[Path]:
    """What is copied, with the ids that it must have in the other pool."""
    source = context.storage(origin)
    show = source.changes if shares_layers(context, origin, made) else source.contents
    return show(context.volume(origin), snapshot, context.storage(made).ids_of(context.volume(made)))


@asynccontextmanager
async def moment(context: Context, op: Operation, origin: Instance, pool: str) -> AsyncIterator[str | None]:
    """The source for copying the current state: the id of a temporary snapshot, or None for the frozen instance itself.

    For a copy to another pool, the instance is frozen only if its own pool has no instant snapshots.
    """
    driver, volume = context.storage(origin), context.volume(origin)
    if origin.id not in context.live or pool == volume.pool or not driver.capabilities.instant_copies:
        async with quiesced(context, op, origin):
            yield None
        return
    token, now = context.host.clock.token(16), context.host.clock.now()
    passing = InstanceSnapshot(token, f"copying-{token}", now, origin, ready=False)

    async def forget() -> None:
        # A remaining one is recorded, and removed by the next snapshot of the instance or the next daemon.
        if passing.id not in await driver.snapshots(volume):
            await context.snapshots.remove(passing.key)

    await op.effect("record passing snapshot", lambda: context.snapshots.add(passing.key, passing), undo=forget)
    try:
        async with quiesced(context, op, origin):
            await driver.create_snapshot(op, volume, passing.id)
        yield passing.id
    finally:
        with suppress(IsolaError):
            await finish(asyncio.ensure_future(_drop(context, origin, passing)))


async def _drop(context: Context, origin: Instance, passing: InstanceSnapshot) -> None:
    await context.storage(origin).drop_snapshot(context.volume(origin), passing.id)
    await context.snapshots.remove(passing.key)
