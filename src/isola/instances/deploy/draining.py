"""Wait until the version that has served has no clients left."""

from __future__ import annotations

from isola.host.threads import in_thread
from isola.instances.context import Context
from isola.instances.phases import RunState
from isola.model.instance import Instance
from isola.runtimes.guest import Serving

_PAUSE = 0.25
_QUIET = 2
"""Times in a row without a connection: one may be on its way from the forwarder."""


async def drained(context: Context, instance: Instance, most: float) -> None:
    """Until it has no connection that others have opened, or ``most`` seconds have passed.

    The whole time where connections are not seen from outside, because it has a kernel of its own.
    """
    clock, live = context.host.clock, context.live.get(instance.id)
    guest = live.guest if live is not None and instance.isolation == "container" else None
    if live is None or not isinstance(guest, Serving):
        await clock.sleep(most)
        return
    quiet, end = 0, clock.monotonic() + most
    while quiet < _QUIET and clock.monotonic() < end and live.state is not RunState.ENDED:
        await clock.sleep(min(_PAUSE, most))
        quiet = 0 if await in_thread(guest.clients) else quiet + 1
