"""Attachments to the first process of a fake instance."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from isola.runtimes import Channel

if TYPE_CHECKING:
    from isola.testing.runtime import FakeInstance


class FakeAttachment:
    """What a test has the first process say, and what is written to it."""

    def __init__(self, instance: FakeInstance) -> None:
        self._instance = instance
        self._said: asyncio.Queue[tuple[Channel, bytes] | None] = asyncio.Queue()

    def say(self, block: tuple[Channel, bytes] | None) -> None:
        """It comes next; None is the end."""
        self._said.put_nowait(block)

    async def read(self) -> tuple[Channel, bytes] | None:
        return await self._said.get()

    async def write(self, data: bytes) -> None:
        """Kept in ``FakeInstance.input``."""
        if (self._instance.spec.stdin or self._instance.spec.terminal) and not self._instance.input_ended:
            self._instance.input += data

    def end_input(self) -> None:
        self._instance.input_ended = not self._instance.spec.terminal and self._instance.spec.stdin_once

    def close(self, *, keep_input: bool = False) -> None:
        """No longer attached."""
        if not keep_input:
            self.end_input()
        if self in self._instance.attached:
            self._instance.attached.remove(self)
        self.say(None)
