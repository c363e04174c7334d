"""What containers write, use and run: logs, statistics, processes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from urllib.parse import quote_plus

from aiohttp import web

from isola.doors.docker.answers import HEADERS, answer
from isola.doors.docker.containers.environment import variables
from isola.doors.docker.containers.stats import stats_json
from isola.doors.docker.containers.streams import STDERR, STDOUT, content_type, line_frames
from isola.doors.docker.containers.view import View, view
from isola.doors.docker.identity import named
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission
from isola.doors.docker.times import parse_time
from isola.doors.http.json import dumps
from isola.errors import Conflict, InvalidInput, NotFound, Unsupported, WrongState
from isola.model.log_query import LogQuery
from isola.runtimes import Channel

_NUMBERS = {Channel.STDOUT: STDOUT, Channel.STDERR: STDERR}
_SECOND = 1.0


async def logs(request: Request) -> web.StreamResponse:
    """Its output as it is kept; with ``follow`` also what comes, until its run ends."""
    seen = view(request, named(request))
    query = _query(request, seen)
    if not (query.stdout or query.stderr):
        raise InvalidInput("Bad parameters: you must choose at least one stream")
    if seen.config.get("isola.log.driver") == "none":
        raise Unsupported("configured logging driver does not support reading")
    terminal = seen.instance.start.terminal
    headers = {**HEADERS, "Content-Type": content_type(request, terminal=terminal)}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request.http)
    with request.lasts():
        async with aclosing(request.services.instances.logs.output(seen.instance.ref, query)) as blocks:
            async for block in blocks:
                await response.write(block.data if terminal else line_frames(_NUMBERS[block.channel], block.data))
    return response


async def stats(request: Request) -> web.StreamResponse:
    """What it uses, every second; once with ``stream=0``, where the two values are a second apart."""
    seen = view(request, named(request))
    stream, once = request.flag("stream", True), request.flag("one-shot")
    if stream and once:
        raise InvalidInput("cannot have stream=true and one-shot=true")
    runs, ref = request.services.instances.runs, seen.instance.ref
    if not seen.running:
        return answer(stats_json(seen, None, None))
    before = None if once and not stream else await runs.stats(ref)
    if not stream:
        if before is not None:
            await asyncio.sleep(_SECOND)
        return answer(stats_json(seen, await runs.stats(ref), before))
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/json"})
    await response.prepare(request.http)
    with request.lasts():
        await response.write(dumps(stats_json(seen, before, None)) + b"\n")
        while True:
            await asyncio.sleep(_SECOND)
            try:
                now = await runs.stats(ref)
            except WrongState:
                now = None
            except NotFound:
                return response
            await response.write(dumps(stats_json(seen, now, before)) + b"\n")
            before = now


async def top(request: Request) -> web.StreamResponse:
    """Its processes as the host's ``ps`` shows them."""
    seen = view(request, named(request))
    if not seen.running:
        raise Conflict(f"container {seen.id} is not running")
    arguments = request.query.get("ps_args", "-ef").split()
    try:
        found = await request.services.instances.runs.processes(seen.instance.ref, arguments)
    except InvalidInput as error:
        reason = error.remedy.partition("\n")[0].strip() if error.message == "ps has failed" else str(error)
        raise InvalidInput(f"ps: {reason}" if error.message == "ps has failed" else reason) from None
    request.told("listed", seen.instance.ref)
    return answer({"Titles": list(found.titles), "Processes": [list(row) for row in found.rows]})


def _details(seen: View) -> str:
    """What ``--log-opt labels=...`` and ``env=...`` name, of each line the same."""
    options = (seen.note.host.get("LogConfig") or {}).get("Config")
    options = options if isinstance(options, dict) else {}
    given = dict(each.partition("=")[::2] for each in variables(seen))
    found: dict[str, str] = {}
    for option, values in (("labels", seen.labels), ("env", given)):
        names = str(options.get(option) or "").split(",")
        found |= {name.strip(): values[name.strip()] for name in names if name.strip() in values}
    return ",".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in sorted(found.items())) + " "


def _query(request: Request, seen: View) -> LogQuery:
    now = request.services.host.clock.now()
    tail = request.query.get("tail", "")
    # As Docker does, anything but a number means all of it.
    last = int(tail) if tail.isdecimal() and tail.isascii() and len(tail) < 19 else None
    return LogQuery(
        stdout=request.flag("stdout"),
        stderr=request.flag("stderr"),
        since=parse_time(request.query.get("since", ""), "since", now),
        until=parse_time(request.query.get("until", ""), "until", now),
        tail=last,
        timestamps=request.flag("timestamps"),
        details=_details(seen) if request.flag("details") else "",
        follow=request.flag("follow"),
    )


ROUTES = (
    ("GET", "/containers/{name}/logs", logs, Permission.VIEW),
    ("GET", "/containers/{name}/stats", stats, Permission.VIEW),
    ("GET", "/containers/{name}/top", top, Permission.VIEW),
)
