"""Carries the streams of a first process to an attached client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing

from isola.doors.docker.containers.streams import STDERR, STDOUT, DetachKeys, Wire, feed, first_of
from isola.doors.docker.containers.view import View
from isola.doors.docker.request import Request
from isola.model.log_query import LogQuery
from isola.runtimes import Attachment, Channel

_NUMBERS = {Channel.STDOUT: STDOUT, Channel.STDERR: STDERR}


async def serve(request: Request, seen: View, wire: Wire, attachment: Attachment, keys: DetachKeys) -> None:
    """As ``logs``, ``stream``, ``stdin``, ``stdout``, ``stderr`` of the query say, until the run or the client ends."""
    shown = {channel for channel in Channel if request.flag(channel.value)}
    if seen.instance.start.terminal and shown:
        shown = {Channel.STDOUT}
    if request.flag("logs") and shown:
        query = LogQuery(stdout=Channel.STDOUT in shown, stderr=Channel.STDERR in shown)
        async with aclosing(request.services.instances.logs.output(seen.instance.ref, query)) as blocks:
            async for block in blocks:
                await wire.write(_NUMBERS[block.channel], block.data)
    if not request.flag("stream"):
        return
    works: list[Awaitable[object]] = [_output(wire, attachment, shown), wire.gone()]
    if request.flag("stdin"):
        works.append(_input(request, seen, wire, attachment, keys))
    await first_of(*works)


async def _output(wire: Wire, attachment: Attachment, shown: set[Channel]) -> None:
    while (block := await attachment.read()) is not None:
        channel, data = block
        if channel in shown:
            await wire.write(_NUMBERS[channel], data)


async def _input(request: Request, seen: View, wire: Wire, attachment: Attachment, keys: DetachKeys) -> None:
    """Ends when the client detaches. At its EOF the program reads EOF if it is the only client that there can be."""
    terminal = seen.instance.start.terminal
    if await feed(wire, keys if terminal else None, attachment.write):
        request.told("detached", seen.instance.ref)
        return
    if seen.note.config.get("StdinOnce") and not terminal:
        attachment.end_input()
    await asyncio.get_running_loop().create_future()
