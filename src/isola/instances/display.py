"""The screen of an instance, shown to one client's viewer."""

from __future__ import annotations

import asyncio

from isola.errors import Unsupported, WrongState
from isola.host.sockets import Stream
from isola.instances.context import Context
from isola.instances.running import require_live
from isola.model.caller import Caller
from isola.model.exec import ConsoleRequest
from isola.model.instance import Instance
from isola.runtimes import Capability

VGA = "vga"
"""Type of a console that is a screen, in the API."""


def check_display(context: Context, instance: Instance, request: ConsoleRequest) -> None:
    """Raises WrongState (also when a viewer is connected, and not forced), Unsupported."""
    live = require_live(context, instance)
    try:
        context.runtime(instance).capabilities.require(Capability.DISPLAY)
    except Unsupported as error:
        raise Unsupported(error.message, field="type", remedy=error.remedy) from error
    if live.displays and not request.force:
        raise WrongState(f"The screen of {instance.name!r} is in use", remedy="take it over by force")


class Display:
    """A screen that one client looks at, over any number of connections. Opening it ends the previous client's."""

    def __init__(self, context: Context, instance: Instance, caller: Caller) -> None:
        self.instance = instance
        self.over = asyncio.Event()
        """Set when another client has taken the screen, or the instance has stopped."""
        self._context = context
        self._caller = caller

    def open(self) -> None:
        """Raises WrongState."""
        live = require_live(self._context, self.instance)
        for other in live.displays:
            other.set()
        live.displays = {self.over}
        self._context.tell("console", self.instance.ref, caller=self._caller, type=VGA)

    async def connect(self) -> Stream:
        """One more connection. Raises WrongState, HostFailure."""
        return await require_live(self._context, self.instance).guest.display()

    def close(self) -> None:
        """No effect if it is not open."""
        live = self._context.live.get(self.instance.id)
        if live is not None:
            live.displays.discard(self.over)
