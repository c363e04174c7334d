"""Clients attached to the output and input of a first process, also before it is started: they miss nothing."""

from __future__ import annotations

import asyncio

from isola.instances.context import Context
from isola.runtimes import Attachment, Channel, Guest


class Ahead:
    """An attachment that begins with the next run; ends without output if the instance is removed instead."""

    def __init__(self, context: Context, id: str) -> None:
        self._context = context
        self._id = id
        self._begun: asyncio.Future[Attachment | None] = asyncio.get_running_loop().create_future()
        context.attaching.setdefault(id, []).append(self)

    async def read(self) -> tuple[Channel, bytes] | None:
        """The next block of the run; None at its end."""
        attachment = await asyncio.shield(self._begun)
        return None if attachment is None else await attachment.read()

    async def write(self, data: bytes) -> None:
        """Waits for the run."""
        if (attachment := await asyncio.shield(self._begun)) is not None:
            await attachment.write(data)

    def end_input(self) -> None:
        """Of the run, when it has begun."""
        self._begun.add_done_callback(_end_input)

    def close(self, *, keep_input: bool = False) -> None:
        """Also before the run."""
        self._leave()
        if not self._begun.done():
            self._begun.set_result(None)
        elif not self._begun.cancelled() and (attachment := self._begun.result()) is not None:
            attachment.close(keep_input=keep_input)

    def begin(self, attachment: Attachment | None) -> None:
        """The run has begun, or there will be none."""
        self._leave()
        if not self._begun.done():
            self._begun.set_result(attachment)
        elif attachment is not None:
            attachment.close()

    def _leave(self) -> None:
        waiting = self._context.attaching.get(self._id, [])
        if self in waiting:
            waiting.remove(self)
        if not waiting:
            self._context.attaching.pop(self._id, None)


def _end_input(begun: asyncio.Future[Attachment | None]) -> None:
    if not begun.cancelled() and (attachment := begun.result()) is not None:
        attachment.end_input()


async def begin(context: Context, id: str, guest: Guest) -> None:
    """Attach the waiting clients to a run whose program has not been started yet."""
    for ahead in list(context.attaching.get(id, [])):
        ahead.begin(await guest.attach())


def give_up(context: Context, id: str) -> None:
    """The instance is removed."""
    for ahead in list(context.attaching.get(id, [])):
        ahead.begin(None)
