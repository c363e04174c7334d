"""Attach to an instance's console, or to the output and input of its first process."""

from __future__ import annotations

import asyncio

from isola.errors import Unsupported, WrongState
from isola.host.sockets import Stream
from isola.instances.attaching import Ahead
from isola.instances.context import Context
from isola.instances.phases import RunState
from isola.instances.running import require_live
from isola.model.caller import Caller
from isola.model.exec import ConsoleRequest
from isola.model.instance import Instance
from isola.runtimes import Attachment


def check(context: Context, instance: Instance, request: ConsoleRequest) -> None:
    """Raises WrongState (also when it is frozen, and in use and not forced), Unsupported."""
    live = require_live(context, instance)
    if request.type != "console":
        raise Unsupported(
            f"There is no console of type {request.type[:20]!r}", field="type", remedy="use console or vga"
        )
    if live.state is RunState.FROZEN:
        raise WrongState(f"Instance {instance.name!r} is frozen", remedy="unfreeze it first")
    if live.consoles and not request.force:
        raise WrongState(f"The console of {instance.name!r} is in use", remedy="take it over by force")


async def attach(context: Context, instance: Instance, *, ahead: bool) -> Attachment:
    """To its run, or with ``ahead`` to the next one if it does not run. Raises WrongState."""
    if ahead and not context.runs(instance):
        return Ahead(context, instance.id)
    return await require_live(context, instance).guest.attach()


class Console:
    """A console attached by one client. Attaching detaches the previous client."""

    def __init__(self, context: Context, instance: Instance, request: ConsoleRequest, caller: Caller) -> None:
        self.instance = instance
        self.over = asyncio.Event()
        """Set when another client has taken the console, or the instance has stopped."""
        self._request = request
        self._caller = caller
        self._context = context
        self._stream: Stream | None = None

    async def attach(self) -> Stream:
        """Its terminal, in both directions; EOF when the instance ends. Raises WrongState."""
        live = require_live(self._context, self.instance)
        request = self._request
        self._stream = stream = await live.guest.console()
        self._context.tell("console", self.instance.ref, caller=self._caller, type=request.type)
        if request.width and request.height:
            await self.resize(request.width, request.height)
        for other in live.consoles:
            other.set()
        live.consoles = {self.over}
        return stream

    async def resize(self, width: int, height: int) -> None:
        """Window size of the terminal."""
        await require_live(self._context, self.instance).guest.resize_console(width, height)

    def close(self) -> None:
        """Detach; the instance keeps running. No effect if it was not attached."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        live = self._context.live.get(self.instance.id)
        if live is not None:
            live.consoles.discard(self.over)
