"""Swarm, which this server is never part of: answered as a Docker daemon outside of a swarm does."""

from __future__ import annotations

from aiohttp import web

from isola.doors.docker.answers import NO_MANAGER, Unavailable
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.errors import Unsupported


async def refuse_outside_of_a_swarm(request: Request) -> web.StreamResponse:
    """503, as for every node that manages no swarm."""
    raise Unavailable(NO_MANAGER)


async def refuse_to_leave(request: Request) -> web.StreamResponse:
    """503, as for a node without a swarm."""
    raise Unavailable("This node is not part of a swarm")


async def refuse_to_join(request: Request) -> web.StreamResponse:
    """501: this server cannot be part of a swarm."""
    raise Unsupported("Swarm is not offered by this server")


_PATHS = (
    "GET /swarm",
    "POST /swarm/update",
    "GET /swarm/unlockkey",
    "POST /swarm/unlock",
    "GET /nodes",
    "GET /nodes/{id}",
    "DELETE /nodes/{id}",
    "POST /nodes/{id}/update",
    "GET /services",
    "POST /services/create",
    "GET /services/{id}",
    "DELETE /services/{id}",
    "POST /services/{id}/update",
    "GET /services/{id}/logs",
    "GET /tasks",
    "GET /tasks/{id}",
    "GET /tasks/{id}/logs",
    "GET /secrets",
    "POST /secrets/create",
    "GET /secrets/{id}",
    "DELETE /secrets/{id}",
    "POST /secrets/{id}/update",
    "PUT /volumes/{name}",
    "GET /configs",
    "POST /configs/create",
    "GET /configs/{id}",
    "DELETE /configs/{id}",
    "POST /configs/{id}/update",
)


def _refused(route: str) -> Route:
    method, _, path = route.partition(" ")
    return method, path, refuse_outside_of_a_swarm, Permission.TRUSTED


ROUTES: tuple[Route, ...] = (
    *(_refused(each) for each in _PATHS),
    ("POST", "/swarm/init", refuse_to_join, Permission.TRUSTED),
    ("POST", "/swarm/join", refuse_to_join, Permission.TRUSTED),
    ("POST", "/swarm/leave", refuse_to_leave, Permission.TRUSTED),
)
