"""Runs of instances: their output, their end, their processes and what they use. An addition to the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from aiohttp import web

from isola.doors.rest.answers import sync
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.doors.rest.shapes.runs import process_json, stats_json
from isola.errors import InvalidInput
from isola.model.last_run import Until
from isola.model.log_query import LogQuery
from isola.model.signals import signal_number
from isola.runtimes import Channel, LogBlock

_NUMBERS = {Channel.STDOUT: 1, Channel.STDERR: 2}
_LONGEST = 3600
_LOOK = 10.0
"""Seconds after which a silent output is checked for a client that has gone."""
_FIRST = 0.05
"""Seconds to wait for an error before the response begins."""
_MOST_LINES = 10**9


async def output(request: Request) -> web.StreamResponse:
    """Its output in frames: 1 or 2 for stdout or stderr, three zero bytes, the size in four bytes, and the data."""
    flag, instance = request.flag, instance_of(request)
    query = LogQuery(
        stdout=flag("stdout") or not flag("stderr"),
        stderr=flag("stderr") or not flag("stdout"),
        since=_number(request, "since", 10**19),
        until=_number(request, "until", 10**19),
        tail=_number(request, "tail", _MOST_LINES),
        timestamps=flag("timestamps"),
        follow=flag("follow"),
    )
    blocks = request.services.instances.logs.output(instance.ref, query)
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    try:
        following = asyncio.ensure_future(_next(blocks))
        await asyncio.wait([following], timeout=_FIRST if query.follow else None)
        if following.done() and following.exception() is not None:
            await following  # an error is sent as one
        await response.prepare(request.http)
        while (block := await _while_connected(request, following)) is not None:
            await response.write(bytes((_NUMBERS[block.channel], 0, 0, 0)) + len(block.data).to_bytes(4) + block.data)
            following = asyncio.ensure_future(_next(blocks))
        await response.write_eof()
    finally:
        following.cancel()
        await asyncio.wait([following])
        await blocks.aclose()
    return response


async def _next(blocks: AsyncGenerator[LogBlock, None]) -> LogBlock | None:
    return await anext(blocks, None)


async def _while_connected(request: Request, following: asyncio.Future[LogBlock | None]) -> LogBlock | None:
    """The next block; None at the end, or when the client has gone."""
    while not following.done():
        await asyncio.wait([following], timeout=_LOOK)
        if request.http.transport is None or request.http.transport.is_closing():
            return None
    return await following


async def wait(request: Request) -> web.StreamResponse:
    """Wait until it does not run (or ``condition=next-exit`` or ``removed``); null after ``timeout`` seconds."""
    text = request.query.get("condition") or Until.NOT_RUNNING.value
    if text not in list(Until):
        raise InvalidInput("Unknown condition", field="condition", remedy=f"use one of: {', '.join(Until)}")
    seconds = _number(request, "timeout", _LONGEST)
    ended = request.services.instances.wait(instance_of(request).ref, Until(text))
    try:
        async with asyncio.timeout(30 if seconds is None else seconds):
            return sync({"exit_status": await ended})
    except TimeoutError:
        return sync({"exit_status": None})


async def signal(request: Request) -> web.StreamResponse:
    """Send its first process a ``signal``, a name or a number. To kill it, stop it by force."""
    fields = await request.fields()
    given = fields.text("signal") if fields.holds("signal", str) else fields.whole("signal", 0, maximum=64)
    await request.services.instances.runs.signal(instance_of(request).ref, signal_number(given), caller=request.caller)
    return sync()


async def processes(request: Request) -> web.StreamResponse:
    """Its processes as the host's ``ps`` shows them, with the options of ``options=``."""
    options = request.query.get("options", "").split()
    return sync(process_json(await request.services.instances.runs.processes(instance_of(request).ref, options)))


async def statistics(request: Request) -> web.StreamResponse:
    """What it uses now, in the kernel's detail."""
    return sync(stats_json(await request.services.instances.runs.stats(instance_of(request).ref)))


def _number(request: Request, name: str, most: int) -> int | None:
    text = request.query.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) > most:
        raise InvalidInput(f"{name} must be a number up to {most}", field=name)
    return int(text)


ROUTES = in_every_tree(
    ("GET", "/1.0/instances/{name}/output", output, Permission.OPERATE),
    ("GET", "/1.0/instances/{name}/wait", wait, Permission.VIEW),
    ("POST", "/1.0/instances/{name}/signal", signal, Permission.OPERATE),
    ("GET", "/1.0/instances/{name}/processes", processes, Permission.OPERATE),
    ("GET", "/1.0/instances/{name}/statistics", statistics, Permission.VIEW),
)
