"""Snapshots of instances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from isola.doors.rest.addresses import address
from isola.doors.rest.answers import background, sync
from isola.doors.rest.filtering import select
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.doors.rest.shapes.instance_snapshots import snapshot_writable
from isola.errors import Unsupported
from isola.model.snapshot import InstanceSnapshot, snapshot_entity

_ALL = "/1.0/instances/{name}/snapshots"
_ONE = f"{_ALL}/{{snapshot}}"


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or snapshots with their sizes, oldest first."""
    instance = instance_of(request)
    snapshots = request.services.instances.snapshots
    found = snapshots.of(instance)
    if not request.recursion:
        return sync([address(snapshot_entity(instance, each.name)) for each in found])
    shapes = [request.rendering.snapshot(each, await snapshots.size(instance, each)) for each in found]
    return sync(select(shapes, request.query.get("filter", "")))


async def create(request: Request) -> web.StreamResponse:
    """Start taking a snapshot; its default name follows ``snapshots.pattern``."""
    fields = await request.fields()
    expires_at = fields.time("expires_at")
    operation = request.services.instances.snapshots.create(
        instance_of(request).ref,
        fields.text("name", ""),
        stateful=fields.boolean("stateful"),
        expires_at=expires_at,
        forever=fields.has("expires_at") and expires_at is None,
        caller=request.caller,
    )
    return background(operation)


async def get(request: Request) -> web.StreamResponse:
    """One snapshot with its size."""
    instance, found = instance_of(request), _found(request)
    size = await request.services.instances.snapshots.size(instance, found)
    return sync(request.rendering.snapshot(found, size), etag=snapshot_writable(found))


async def put(request: Request) -> web.StreamResponse:
    """Start setting the time of expiry; without a time it never expires."""
    fields = await request.fields()
    expires_at = fields.time("expires_at")
    return _update(request, lambda found: replace(found, expires_at=expires_at))


async def patch(request: Request) -> web.StreamResponse:
    """Start setting the time of expiry; without the field nothing changes."""
    fields = await request.fields()
    expires_at = fields.time("expires_at")
    given = fields.has("expires_at")
    return _update(request, lambda found: replace(found, expires_at=expires_at) if given else found)


async def rename(request: Request) -> web.StreamResponse:
    """Start renaming a snapshot."""
    fields = await request.fields()
    for field in ("migration", "live"):
        if fields.boolean(field):
            raise Unsupported("Moving a snapshot to another server is not offered yet", field=field)
    snapshots = request.services.instances.snapshots
    name, new = request.parameters["snapshot"], fields.text("name")
    return background(snapshots.rename(instance_of(request).ref, name, new, caller=request.caller))


async def delete(request: Request) -> web.StreamResponse:
    """Start deleting a snapshot."""
    snapshots = request.services.instances.snapshots
    return background(snapshots.delete(instance_of(request).ref, request.parameters["snapshot"], caller=request.caller))


def _found(request: Request) -> InstanceSnapshot:
    return request.services.instances.snapshots.get(instance_of(request).ref, request.parameters["snapshot"])


def _update(request: Request, decide: Callable[[InstanceSnapshot], InstanceSnapshot]) -> web.StreamResponse:
    snapshots = request.services.instances.snapshots
    decide = request.matching(snapshot_writable, decide)
    return background(
        snapshots.update(instance_of(request).ref, request.parameters["snapshot"], decide, caller=request.caller)
    )


ROUTES = in_every_tree(
    ("GET", _ALL, list_all, Permission.VIEW),
    ("POST", _ALL, create, Permission.EDIT),
    ("GET", _ONE, get, Permission.VIEW),
    ("PUT", _ONE, put, Permission.EDIT),
    ("PATCH", _ONE, patch, Permission.EDIT),
    ("POST", _ONE, rename, Permission.EDIT),
    ("DELETE", _ONE, delete, Permission.EDIT),
)
