"""The stream of events."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import WSMsgType, web

from isola.doors.http.json import dumps
from isola.doors.rest.channels import accept, close_socket, is_upgrade
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.events import event_json
from isola.errors import Forbidden, InvalidInput
from isola.events import Subscription
from isola.model.caller import Caller
from isola.model.event import Event, EventKind
from isola.model.reference import Entity

_KINDS = tuple(EventKind)


async def follow(request: Request) -> web.StreamResponse:
    """Send events until the client closes, or is too slow to keep up."""
    if not is_upgrade(request):
        raise InvalidInput("A WebSocket is expected", field="Upgrade", remedy="send the upgrade headers")
    types = [kind for kind in request.query.get("type", "").split(",") if kind] or list(_KINDS)
    for kind in types:
        if kind not in _KINDS:
            raise InvalidInput(f"Unknown type {kind[:40]!r}", field="type", remedy=f"use {', '.join(_KINDS)}")
    kinds = [EventKind(kind) for kind in types]
    everywhere = request.everywhere
    if not everywhere and not request.caller.may_use(request.project):
        raise Forbidden("The caller is not allowed in this project")
    # Subscribe before accepting the upgrade, so that a client with the response misses no event.
    subscription = request.services.events.follow(
        kinds, None if everywhere else request.project, shared=lambda entity: _shares(request, entity)
    )
    try:
        socket = await accept(request)
        try:
            await _serve(socket, subscription, request.caller)
        finally:
            request.sockets.discard(socket)
    finally:
        subscription.close()
    return socket


def _shares(request: Request, entity: Entity) -> bool:
    """Whether the project uses a thing of the default project: its clients wait for operations on that here."""
    return entity.project != request.project and entity.project == request.home(entity.kind)


async def _serve(socket: web.WebSocketResponse, subscription: Subscription, caller: Caller) -> None:
    sending = asyncio.ensure_future(_send_all(socket, subscription, caller))
    listening = asyncio.ensure_future(_until_closed(socket))
    try:
        await asyncio.wait([sending, listening], return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        listening.cancel()
        await asyncio.gather(sending, listening, return_exceptions=True)
        await close_socket(socket)


async def _send_all(socket: web.WebSocketResponse, subscription: Subscription, caller: Caller) -> None:
    with suppress(ConnectionError, RuntimeError):
        async for event in subscription:
            if not _may_see(caller, event):
                continue
            await socket.send_str(dumps(event_json(event)).decode())


def _may_see(caller: Caller, event: Event) -> bool:
    """Restricted callers see events of their projects, but not the daemon's log, which concerns all."""
    return caller.admin or (caller.may_use(event.project) and event.kind is not EventKind.LOGGING)


async def _until_closed(socket: web.WebSocketResponse) -> None:
    while (await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
        pass


ROUTES = (("GET", "/1.0/events", follow, Permission.TRUSTED),)
