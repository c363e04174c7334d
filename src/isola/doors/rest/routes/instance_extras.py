"""Metadata of instances, and what they do not have yet: snapshots, backups, SFTP."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.answers import sync
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.doors.rest.shapes.instances import image_metadata_json
from isola.errors import NotFound, Unsupported


async def metadata(request: Request) -> web.StreamResponse:
    """Metadata of the image it was made from."""
    shape = image_metadata_json(instance_of(request))
    return sync(shape, etag=shape)


async def nothing(request: Request) -> web.StreamResponse:
    """An empty list: there are no snapshots, backups or templates."""
    instance_of(request)
    return sync([])


async def snapshot(request: Request) -> web.StreamResponse:
    """Not found: there is none."""
    name = instance_of(request).name
    raise NotFound(f"Instance {name!r} has no snapshot {request.parameters['snapshot'][:80]!r}")


async def backup(request: Request) -> web.StreamResponse:
    """Not found: there is none."""
    name = instance_of(request).name
    raise NotFound(f"Instance {name!r} has no backup {request.parameters['backup'][:80]!r}")


async def refuse_snapshot(request: Request) -> web.StreamResponse:
    """Refused: snapshots are not offered yet."""
    instance_of(request)
    raise Unsupported("Snapshots are not offered yet", remedy="no storage driver here can take them")


async def refuse_backup(request: Request) -> web.StreamResponse:
    """Refused: backups are not offered yet."""
    instance_of(request)
    raise Unsupported("Backups are not offered yet", remedy="copy files with 'isola file pull'")


async def refuse_sftp(request: Request) -> web.StreamResponse:
    """Refused: SFTP is not offered yet."""
    instance_of(request)
    raise Unsupported("SFTP is not offered yet", remedy="use GET and POST of .../files")


ROUTES = in_every_tree(
    ("GET", "/1.0/instances/{name}/metadata", metadata, Permission.VIEW),
    ("GET", "/1.0/instances/{name}/metadata/templates", nothing, Permission.VIEW),
    ("GET", "/1.0/instances/{name}/snapshots", nothing, Permission.VIEW),
    ("POST", "/1.0/instances/{name}/snapshots", refuse_snapshot, Permission.EDIT),
    ("GET", "/1.0/instances/{name}/snapshots/{snapshot}", snapshot, Permission.VIEW),
    ("GET", "/1.0/instances/{name}/backups", nothing, Permission.VIEW),
    ("POST", "/1.0/instances/{name}/backups", refuse_backup, Permission.EDIT),
    ("GET", "/1.0/instances/{name}/backups/{backup}", backup, Permission.VIEW),
    ("GET", "/1.0/instances/{name}/sftp", refuse_sftp, Permission.OPERATE),
)
