"""Sizes of roots that are configured, but were ignored when they were set: Isola 0.1 accepted them on any pool.

Such a size takes effect as soon as its pool can limit volumes; until then a warning says that it has none.
"""

from __future__ import annotations

import logging

from isola.errors import InvalidInput, IsolaError
from isola.instances.configuration import expanded
from isola.instances.context import Context, entity_of, lock_of
from isola.instances.disks import has_disks
from isola.instances.expand import root_size
from isola.instances.update import update
from isola.model.instance import Instance, InstanceUpdate
from isola.model.warning import WarningType
from isola.storage.capabilities import Feature

log = logging.getLogger(__name__)


async def apply_sizes(context: Context) -> None:
    """At the start of the daemon: limit roots whose size has not taken effect yet, or say why it cannot."""
    for instance in list(context.records):
        try:
            if not _differs(context, instance):
                context.warnings.resolve(WarningType.ROOT_UNLIMITED, instance.entity)
            elif reason := await context.storage(instance).why_not(Feature.QUOTA):
                context.warnings.report(WarningType.ROOT_UNLIMITED, instance.entity, _text(context, instance, reason))
            else:
                await _apply(context, instance)
                context.warnings.resolve(WarningType.ROOT_UNLIMITED, instance.entity)
        except IsolaError as error:
            log.error("The size of the root of instance %s: %s", instance.name, error)


def _differs(context: Context, instance: Instance) -> bool:
    if instance.deleting or instance.id in context.faults or has_disks(context, instance.runtime):
        return False
    try:
        return root_size(expanded(context, instance)[1]) not in (None, context.volume(instance).size)
    except InvalidInput:  # its profiles have no root any more
        return False


def _text(context: Context, instance: Instance, reason: str) -> str:
    size, pool = root_size(expanded(context, instance)[1]), context.pool_name(instance)
    return f"Its root is not limited to {size} bytes: storage pool {pool!r} does not limit volumes ({reason})"


async def _apply(context: Context, instance: Instance) -> None:
    def unchanged(found: Instance) -> InstanceUpdate:
        return InstanceUpdate(
            found.config, found.devices, found.profiles, found.description, found.ephemeral, found.architecture
        )

    operation = context.operations.start(
        "Limiting root of instance",
        lambda op: update(context, op, instance.ref, unchanged),
        locks=[lock_of(instance.ref)],
        resources=[entity_of(instance.ref)],
    )
    await context.operations.finish(operation)
