"""The stream of events."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import WSMsgType, web

from isola.doors.rest.answers import dumps
from isola.doors.rest.channels import accept, goodbye, is_upgrade
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.times import moment
from isola.errors import InvalidInput
from isola.events import Subscription
from isola.model.caller import Caller
from isola.model.event import Event

_KINDS = ("logging", "operation", "lifecycle")


async def follow(request: Request) -> web.StreamResponse:
    """Events as they happen, until the client goes or is too slow to keep up."""
    if not is_upgrade(request):
        raise InvalidInput("A WebSocket is expected", field="Upgrade", remedy="send the upgrade headers")
    kinds = [kind for kind in request.query.get("type", "").split(",") if kind] or list(_KINDS)
    for kind in kinds:
        if kind not in _KINDS:
            raise InvalidInput(f"Unknown type {kind[:40]!r}", field="type", remedy=f"use {', '.join(_KINDS)}")
    everywhere = request.flag("all-projects")
    # Followed before the upgrade is answered: whoever has the answer misses nothing.
    subscription = request.services.events.follow(kinds, None if everywhere else "default")
    try:
        socket = await accept(request)
        try:
            await _pass_on(socket, subscription, request.caller)
        finally:
            request.sockets.discard(socket)
    finally:
        subscription.close()
    return socket


async def _pass_on(socket: web.WebSocketResponse, subscription: Subscription, caller: Caller) -> None:
    sending = asyncio.ensure_future(_send_all(socket, subscription, caller))
    listening = asyncio.ensure_future(_until_gone(socket))
    try:
        await asyncio.wait([sending, listening], return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        listening.cancel()
        await asyncio.gather(sending, listening, return_exceptions=True)
        await goodbye(socket)


async def _send_all(socket: web.WebSocketResponse, subscription: Subscription, caller: Caller) -> None:
    with suppress(ConnectionError, RuntimeError):
        async for event in subscription:
            if not _may_see(caller, event):
                continue
            body = {
                "type": event.type,
                "timestamp": moment(event.timestamp),
                "metadata": event.metadata,
                "location": "none",
                "project": event.project,
            }
            await socket.send_str(dumps(body).decode())


def _may_see(caller: Caller, event: Event) -> bool:
    """Those restricted to projects see what happens there, and not the daemon's log, which names all."""
    return caller.admin or (caller.may_use(event.project) and event.type != "logging")


async def _until_gone(socket: web.WebSocketResponse) -> None:
    while (await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
        pass


ROUTES = (("GET", "/1.0/events", follow, Permission.TRUSTED),)
