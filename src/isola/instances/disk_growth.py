"""A volume with a disk was enlarged: guests that have it see that at once."""

from __future__ import annotations

import logging

from isola.errors import NotFound, Unsupported
from isola.instances.context import Context
from isola.runtimes import WithDisks

log = logging.getLogger(__name__)


async def disk_grown(context: Context, holder: str, size: int) -> None:
    """``holder`` is the id of an instance and the name of its device, with a slash between. Raises HostFailure.

    No effect if it does not run: it finds the new size at its next start.
    """
    id, _, name = holder.partition("/")
    live = context.live.get(id)
    if live is None or not isinstance(live.guest, WithDisks):
        return
    try:
        await live.guest.resize_disk(name, size)
    except (NotFound, Unsupported) as error:
        log.info("Instance %s sees the new size of disk %s at its next start: %s", id, name, error)
