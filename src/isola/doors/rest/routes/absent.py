"""Clustering, which is not offered: empty lists and errors."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.answers import sync
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.errors import NotFound, Unsupported


async def none(request: Request) -> web.StreamResponse:
    """An empty list."""
    return sync([])


async def missing(request: Request) -> web.StreamResponse:
    """404: there are no cluster members."""
    raise NotFound(f"{request.parameters['id'][:80]!r} not found")


async def cluster(request: Request) -> web.StreamResponse:
    """This server is not clustered."""
    shape = {"enabled": False, "server_name": "", "member_config": []}
    return sync(shape, etag=shape)


async def refuse_cluster(request: Request) -> web.StreamResponse:
    """Refused: clustering is not offered yet."""
    raise Unsupported("Clustering is not offered yet", remedy="run one server")


_CHANGES = ("PUT", "PATCH", "POST", "DELETE")

ROUTES = (
    ("GET", "/1.0/cluster", cluster, Permission.TRUSTED),
    ("PUT", "/1.0/cluster", refuse_cluster, Permission.ADMIN),
    ("GET", "/1.0/cluster/members", none, Permission.TRUSTED),
    ("POST", "/1.0/cluster/members", refuse_cluster, Permission.ADMIN),
    ("GET", "/1.0/cluster/members/{id}", missing, Permission.TRUSTED),
    *((method, "/1.0/cluster/members/{id}", refuse_cluster, Permission.ADMIN) for method in _CHANGES),
)
