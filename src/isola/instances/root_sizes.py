"""Limits of roots: that of the configuration, or else the default of the pool, which a root has from its creation."""

from __future__ import annotations

from isola.errors import InvalidInput
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.disks import has_disks, quota
from isola.instances.expand import root_pool, root_size
from isola.model.instance import Devices, Instance
from isola.storage.capabilities import Feature


async def first_size(context: Context, runtime: str, devices: Devices) -> int | None:
    """The limit of a new root."""
    size = quota(context, runtime, devices)
    if size is not None or has_disks(context, runtime):
        return size
    return await context.pools.driver(root_pool(devices)).default_size()


def kept_size(context: Context, instance: Instance, runtime: str, devices: Devices, pool: str) -> int | None:
    """The limit of the root of a copy, or of an instance that moves: in the same pool a default is kept.

    In another pool all its data would count, which may be more than the default there.
    """
    size = quota(context, runtime, devices)
    if size is None and pool == context.pool_name(instance) and configured_size(context, instance) is None:
        return context.volume(instance).size
    return size


def configured_size(context: Context, instance: Instance) -> int | None:
    """The size of its root in its configuration, its profiles included."""
    try:
        return root_size(expanded(context, instance)[1])
    except InvalidInput:  # its profiles have no root any more
        return None


async def size_to_be(context: Context, instance: Instance, wanted: Instance, before: int | None) -> int | None:
    """The limit that its root is to have. ``before``: the size in its configuration before the change.

    A size from before that has had no effect, because its pool cannot limit volumes, still has none. A root without a
    size keeps what it had from its creation on, if anything; one that loses its size gets the default.
    """
    devices, now = expanded(context, wanted)[1], context.volume(instance).size
    size = quota(context, instance.runtime, devices)
    if size is None:
        return now if before is None else await first_size(context, instance.runtime, devices)
    if size == before != now and await context.storage(instance).why_not(Feature.QUOTA):
        return now
    return size
