"""Attaching to containers, and the size of their terminals."""

from __future__ import annotations

import asyncio

from aiohttp import web

from isola.doors.docker.answers import empty
from isola.doors.docker.containers.attaching import serve
from isola.doors.docker.containers.streams import DetachKeys, hijack, open_socket
from isola.doors.docker.containers.view import view
from isola.doors.docker.containers.window import window_size
from isola.doors.docker.identity import named
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission
from isola.doors.docker.versions import Version
from isola.errors import Conflict
from isola.model.exec import ConsoleRequest

_STREAMS = ("stdin", "stdout", "stderr")
_CHOSEN: Version = (1, 42)
"""Older clients are attached to all streams of a WebSocket, whatever they name."""


async def attach(request: Request) -> web.StreamResponse:
    """Its streams on this connection, from now on; before its start, from its start on."""
    seen = view(request, named(request))
    if seen.state == "paused":
        raise Conflict(f"container {request.parameters['name'][:200]} is paused, unpause the container before attach")
    keys = DetachKeys(request.query.get("detachKeys", ""))
    attachment = await request.services.instances.attach(seen.instance.ref, ahead=not seen.running)
    try:
        wire = await hijack(request, terminal=seen.instance.start.terminal)
        request.told("attached", seen.instance.ref)
        with request.lasts():
            await serve(request, seen, wire, attachment, keys)
    finally:
        attachment.close(keep_input=not request.flag("stdin"))
    return wire.response


async def attach_by_socket(request: Request) -> web.StreamResponse:
    """The same over a WebSocket."""
    if request.version < _CHOSEN:
        request.pairs = (*((each, "1") for each in _STREAMS), *request.pairs)
    seen = view(request, named(request))
    keys = DetachKeys(request.query.get("detachKeys", ""))
    attachment = await request.services.instances.attach(seen.instance.ref, ahead=not seen.running)
    try:
        wire = await open_socket(request)
        request.told("attached", seen.instance.ref)
        with request.lasts():
            await serve(request, seen, wire, attachment, keys)
        await asyncio.wait_for(wire.close(), 2)
    finally:
        attachment.close(keep_input=not request.flag("stdin"))
    return wire.response


async def resize(request: Request) -> web.StreamResponse:
    """The window size of its terminal."""
    height, width = window_size(request)
    seen = view(request, named(request))
    if not seen.running:
        raise Conflict(f"cannot resize a stopped container: Container {seen.id} is not running")
    if seen.instance.start.terminal:  # of others there is nothing to change, which is no error
        wanted = ConsoleRequest(force=True)
        console = request.services.instances.console(seen.instance.ref, wanted, caller=request.caller)
        await console.resize(width, height)
    request.told("resized", seen.instance.ref, height=height, width=width)
    return empty(200)


ROUTES = (
    ("POST", "/containers/{name}/attach", attach, Permission.OPERATE),
    ("GET", "/containers/{name}/attach/ws", attach_by_socket, Permission.OPERATE),
    ("POST", "/containers/{name}/resize", resize, Permission.OPERATE),
)
