"""Volumes that were made for one ephemeral instance: they are removed with it."""

from __future__ import annotations

import logging

from isola.devices.volume_sources import volume_name
from isola.errors import IsolaError
from isola.instances.context import Context
from isola.model.instance import Instance

OWN = "user.com.docker.volume.anonymous"
"""The key that marks them, by which clients of container engines know them as well."""
log = logging.getLogger(__name__)


async def remove_own_volumes(context: Context, instance: Instance) -> None:
    """After its record was removed; one that another instance uses stays."""
    if not instance.ephemeral:
        return
    for device in instance.devices.values():
        pool, source = device.get("pool"), volume_name(device)
        if device.get("type") != "disk" or not pool or not source:
            continue
        ref = context.volume_ref(instance.project, pool, source)
        try:
            if context.volumes.get(ref).config.get(OWN):
                await context.operations.finish(await context.volumes.delete(ref))
        except IsolaError as error:
            log.info("Volume %s of instance %s is left: %s", source, instance.name, error)
