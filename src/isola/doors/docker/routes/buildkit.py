"""The connections of clients of BuildKit: their calls, and the sessions by which they are called back."""

from __future__ import annotations

from aiohttp import web

from isola.doors.docker.answers import HEADERS
from isola.doors.docker.buildkit.control import Control
from isola.doors.docker.buildkit.http2 import Connection
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.doors.http.takeover import TakenOver, take_over
from isola.errors import InvalidInput

_H2C = "h2c"
_ID, _METHOD = "X-Docker-Expose-Session-Uuid", "X-Docker-Expose-Session-Grpc-Method"


async def grpc(request: Request) -> web.StreamResponse:
    """Builds by BuildKit's protocol, as ``docker buildx`` asks for them: gRPC over HTTP/2."""
    link = await _taken(request)
    control = Control(request)
    try:
        with request.lasts():
            await Connection(link, control.serve).run()
    finally:
        await control.close()
    return link.response


async def session(request: Request) -> web.StreamResponse:
    """The other direction: the daemon asks the client for its files, secrets and passwords while it builds."""
    headers = request.http.headers
    id, methods = headers.get(_ID, ""), headers.getall(_METHOD, [])
    request.sessions.require_free(id)
    link = await _taken(request)
    connection = Connection(link)
    with request.lasts(), request.sessions.held(id, connection, methods):
        await connection.run()
    return link.response


async def _taken(request: Request) -> TakenOver:
    if request.http.headers.get("Upgrade", "").lower() != _H2C:
        raise InvalidInput("the connection has to be upgraded to h2c", field="Upgrade")
    return await take_over(request.http, _H2C, headers=HEADERS, reason="UPGRADED")


ROUTES: tuple[Route, ...] = (
    ("POST", "/grpc", grpc, Permission.EDIT),
    ("POST", "/session", session, Permission.EDIT),
)
