"""Metadata of instances, and what they do not have yet: backups."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.acting import telling
from isola.doors.rest.answers import sync
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Handler, Permission, Route, in_every_tree
from isola.doors.rest.shapes.instances import image_metadata_json
from isola.errors import NotFound, Unsupported


async def metadata(request: Request) -> web.StreamResponse:
    """Metadata of the image it was created from."""
    shape = image_metadata_json(instance_of(request))
    return sync(shape, etag=shape)


async def nothing(request: Request) -> web.StreamResponse:
    """An empty list: there are no backups."""
    instance_of(request)
    return sync([])


async def templates(request: Request) -> web.StreamResponse:
    """Names of its image's templates; with ``path=`` the text of one, raw."""
    instance = instance_of(request)
    if name := request.query.get("path", ""):
        for each in instance.start.templates:
            if each.name == name:
                return web.Response(body=each.text.encode(), content_type="application/octet-stream")
        raise NotFound(f"Instance {instance.name!r} has no template {name[:80]!r}")
    return sync(sorted({each.name for each in instance.start.templates}))


async def backup(request: Request) -> web.StreamResponse:
    """404: there is none."""
    name = instance_of(request).name
    raise NotFound(f"Instance {name!r} has no backup {request.parameters['backup'][:80]!r}")


async def refuse_backup(request: Request) -> web.StreamResponse:
    """Refused: backups are not offered yet."""
    instance_of(request)
    raise Unsupported("Backups are not offered yet", remedy="copy its files out instead")


async def refuse_metadata(request: Request) -> web.StreamResponse:
    """Refused: changing the metadata and templates of an instance is not offered yet."""
    instance_of(request)
    raise Unsupported("Changing the metadata and templates of an instance is not offered yet")


def _refused(path: str, handler: Handler, *methods: str) -> list[Route]:
    return [(method, path, handler, Permission.EDIT) for method in methods or ("PUT", "PATCH", "POST", "DELETE")]


_METADATA = telling("instance-metadata-retrieved", metadata, lambda request: {})

ROUTES = in_every_tree(
    ("GET", "/1.0/instances/{name}/metadata", _METADATA, Permission.VIEW),
    ("PUT", "/1.0/instances/{name}/metadata", refuse_metadata, Permission.EDIT),
    ("PATCH", "/1.0/instances/{name}/metadata", refuse_metadata, Permission.EDIT),
    ("GET", "/1.0/instances/{name}/metadata/templates", templates, Permission.VIEW),
    ("POST", "/1.0/instances/{name}/metadata/templates", refuse_metadata, Permission.EDIT),
    ("DELETE", "/1.0/instances/{name}/metadata/templates", refuse_metadata, Permission.EDIT),
    ("GET", "/1.0/instances/{name}/backups", nothing, Permission.VIEW),
    ("POST", "/1.0/instances/{name}/backups", refuse_backup, Permission.EDIT),
    ("GET", "/1.0/instances/{name}/backups/{backup}", backup, Permission.VIEW),
    *_refused("/1.0/instances/{name}/backups/{backup}", refuse_backup, "POST", "DELETE"),
    ("GET", "/1.0/instances/{name}/backups/{backup}/export", refuse_backup, Permission.OPERATE),
)
