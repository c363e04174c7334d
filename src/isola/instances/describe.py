"""Descriptions of instances beside their volumes, from which lost records can be restored."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable

from isola.errors import IsolaError
from isola.host.building import NewFile
from isola.instances.context import Context
from isola.instances.templates import PENDING
from isola.model.instance import Desired, Instance
from isola.model.storage import Volume
from isola.operations import Operation

_PASSING = ("last_state.", PENDING)
log = logging.getLogger(__name__)


async def describe(context: Context, instance: Instance) -> None:
    """Write the description, durable on return; no effect if it is unchanged. Raises HostFailure."""
    await context.descriptions(context.pool_name(instance)).write(instance.id, _lasting(context, instance))


async def describe_new(context: Context, instance: Instance, create: Callable[[NewFile], Awaitable[None]]) -> None:
    """Have ``create`` write the description together with the volume. Raises HostFailure."""
    await context.descriptions(context.pool_name(instance)).write_with(instance.id, _lasting(context, instance), create)


async def describe_change(context: Context, op: Operation, old: Instance, new: Instance) -> None:
    """Write the new description before a change is recorded; undone by the old one."""
    await op.effect(f"describe {new.name}", lambda: describe(context, new), undo=lambda: keep_described(context, old))


async def keep_described(context: Context, *instances: Instance) -> None:
    """Write descriptions after a completed change; failures are only logged."""
    for instance in instances:
        try:
            await describe(context, instance)
        except IsolaError as error:
            log.warning("The description of instance %s could not be written: %s", instance.name, error)


async def forget_volume(context: Context, op: Operation, volume: Volume) -> None:
    """Remove a volume and its description."""
    await context.pools.driver(volume.pool).delete_volume(op, volume)
    descriptions = context.descriptions(volume.pool)
    await op.effect(f"remove description of {volume.id}", lambda: descriptions.remove(volume.id))


def _lasting(context: Context, instance: Instance) -> Instance:
    """As recorded, without what changes at every start and stop, and without pending templates, which are not applied
    after adoption.
    """
    volatile = {key: value for key, value in instance.volatile.items() if not key.startswith(_PASSING)}
    lasting = dataclasses.replace(
        instance, desired=Desired.STOPPED, last_used_at=None, volatile=volatile, last_run=None
    )
    return context.records.stamped(lasting)
