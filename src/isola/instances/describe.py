"""What a volume says of its instance: written beside it, so that a lost record can be made again."""

from __future__ import annotations

import dataclasses
import logging

from isola.errors import IsolaError
from isola.instances.context import Context
from isola.instances.templates import PENDING
from isola.model.instance import Desired, Instance
from isola.model.storage import Volume
from isola.operations import Operation

_PASSING = ("last_state.", PENDING)
log = logging.getLogger(__name__)


async def describe(context: Context, instance: Instance) -> None:
    """On disk when this returns; costs nothing when it says the same already. Raises HostFailure."""
    await context.descriptions(context.pool_name(instance)).write(instance.id, _lasting(instance))


async def describe_change(context: Context, op: Operation, old: Instance, new: Instance) -> None:
    """The same before a change is recorded, undone by what was said until then."""
    await op.effect(f"describe {new.name}", lambda: describe(context, new), undo=lambda: keep_described(context, old))


async def keep_described(context: Context, *instances: Instance) -> None:
    """The same after a change that stands already: a description that could not be written fails nothing."""
    for instance in instances:
        try:
            await describe(context, instance)
        except IsolaError as error:
            log.warning("The volume of instance %s does not say what it is: %s", instance.name, error)


async def forget_volume(context: Context, op: Operation, volume: Volume) -> None:
    """Remove a volume and what it says of itself."""
    await context.pools.driver(volume.pool).delete_volume(op, volume)
    descriptions = context.descriptions(volume.pool)
    await op.effect(f"remove description of {volume.id}", lambda: descriptions.remove(volume.id))


def _lasting(instance: Instance) -> Instance:
    """Without what changes at every start and stop; what is taken in again gets no template a second time."""
    volatile = {key: value for key, value in instance.volatile.items() if not key.startswith(_PASSING)}
    return dataclasses.replace(instance, desired=Desired.STOPPED, last_used_at=None, volatile=volatile)
