"""What BuildKit's clients ask, answered with the way out: the daemon has a builder of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from isola.doors.docker.answers import HEADERS
from isola.doors.docker.grpc import WAY_OUT, refuse_calls
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.doors.http.takeover import take_over
from isola.errors import Unsupported

_H2C = "h2c"
_SECONDS = 60.0


async def grpc(request: Request) -> web.StreamResponse:
    """The connection of ``docker buildx``, whose calls are refused one by one: the message reaches the user."""
    if request.http.headers.get("Upgrade", "").lower() != _H2C:
        raise Unsupported(WAY_OUT, field="grpc")
    connection = await take_over(request.http, _H2C, headers=HEADERS, reason="UPGRADED")
    await refuse_calls(connection, WAY_OUT)
    return connection.response


async def session(request: Request) -> web.StreamResponse:
    """Of older docker commands, which show no error here, but that of the build that they ask for next."""
    if request.http.headers.get("Upgrade", "").lower() != _H2C:
        raise Unsupported(WAY_OUT, field="session")
    connection = await take_over(request.http, _H2C, headers=HEADERS, reason="UPGRADED")
    with suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS):
            while await connection.read_some():
                pass
    return connection.response


ROUTES: tuple[Route, ...] = (
    ("POST", "/grpc", grpc, Permission.EDIT),
    ("POST", "/session", session, Permission.EDIT),
)
