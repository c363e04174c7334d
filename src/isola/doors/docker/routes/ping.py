"""``_ping``: the first request of every client."""

from __future__ import annotations

from aiohttp import web

from isola.doors.docker.answers import HEADERS
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission

_HEADERS = {
    **HEADERS,
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Docker-Experimental": "true",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}


async def ping(request: Request) -> web.StreamResponse:
    """``OK``, and what the server can do in its headers."""
    return web.Response(text="" if request.http.method == "HEAD" else "OK", headers=_HEADERS)


ROUTES = (
    ("GET", "/_ping", ping, Permission.TRUSTED),
    ("HEAD", "/_ping", ping, Permission.TRUSTED),
)
