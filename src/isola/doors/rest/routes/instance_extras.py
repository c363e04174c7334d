"""Backups of instances, which are not offered yet."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.answers import sync
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Handler, Permission, Route, in_every_tree
from isola.errors import NotFound, Unsupported


async def nothing(request: Request) -> web.StreamResponse:
    """An empty list: there are no backups."""
    instance_of(request)
    return sync([])


async def backup(request: Request) -> web.StreamResponse:
    """404: there is none."""
    name = instance_of(request).name
    raise NotFound(f"Instance {name!r} has no backup {request.parameters['backup'][:80]!r}")


async def refuse_backup(request: Request) -> web.StreamResponse:
    """Refused: backups are not offered yet."""
    instance_of(request)
    raise Unsupported("Backups are not offered yet", remedy="copy its files out instead")


def _refused(path: str, handler: Handler, *methods: str) -> list[Route]:
    return [(method, path, handler, Permission.EDIT) for method in methods or ("PUT", "PATCH", "POST", "DELETE")]


ROUTES = in_every_tree(
    ("GET", "/1.0/instances/{name}/backups", nothing, Permission.VIEW),
    ("POST", "/1.0/instances/{name}/backups", refuse_backup, Permission.EDIT),
    ("GET", "/1.0/instances/{name}/backups/{backup}", backup, Permission.VIEW),
    *_refused("/1.0/instances/{name}/backups/{backup}", refuse_backup, "POST", "DELETE"),
    ("GET", "/1.0/instances/{name}/backups/{backup}/export", refuse_backup, Permission.OPERATE),
)
