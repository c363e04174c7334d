"""Snapshots of storage volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from isola.doors.rest.addresses import address
from isola.doors.rest.answers import background, sync
from isola.doors.rest.filtering import select
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.volumes import listed_snapshot, root_snapshot_json, snapshot_json, snapshot_writable
from isola.doors.rest.volumes import custom_of, ref_of, root_of, type_of
from isola.model.volume import CUSTOM, VolumeRef, VolumeSnapshot

_ROOT = "/1.0/storage-pools/{pool}/volumes/{type}/{volume}/snapshots"
_ONE = f"{_ROOT}/{{snapshot}}"


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or snapshots, oldest first."""
    if type_of(request) != CUSTOM:
        instance = root_of(request)
        taken = request.services.instances.snapshots.of(instance)
        if request.recursion:
            shown = [listed_snapshot(instance.name, root_snapshot_json(each)) for each in taken]
            return sync(select(shown, request.query.get("filter", "")))
        pool, kind = request.parameters["pool"], type_of(request)
        ref = VolumeRef(pool, kind, instance.project, instance.name)
        return sync([address(ref.snapshot(each.name)) for each in taken])
    record = custom_of(request)
    found = request.services.volumes.snapshots.of(record.ref)
    shapes = [listed_snapshot(record.name, snapshot_json(snapshot, record.content_type)) for snapshot in found]
    chosen = select(shapes, request.query.get("filter", ""))
    if request.recursion:
        return sync(chosen)
    return sync([address(record.ref.snapshot(str(shape["name"]).rpartition("/")[2])) for shape in chosen])


async def create(request: Request) -> web.StreamResponse:
    """Start taking a snapshot; its default name follows the volume's ``snapshots.pattern``."""
    fields = await request.fields()
    ref, snapshots = ref_of(request), request.services.volumes.snapshots
    name = fields.text("name", "") or snapshots.next_name(ref)
    description, expires_at = fields.text("description", ""), fields.time("expires_at")
    return background(
        snapshots.create(
            ref,
            name,
            description=description,
            expires_at=expires_at,
            forever=fields.has("expires_at") and expires_at is None,
            caller=request.caller,
        )
    )


async def get(request: Request) -> web.StreamResponse:
    """One snapshot."""
    if type_of(request) != CUSTOM:
        return sync(
            root_snapshot_json(
                request.services.instances.snapshots.get(root_of(request).ref, request.parameters["snapshot"])
            )
        )
    record = custom_of(request)
    snapshot = request.services.volumes.snapshots.get(record.ref, request.parameters["snapshot"])
    return sync(snapshot_json(snapshot, record.content_type), etag=snapshot_writable(snapshot))


async def put(request: Request) -> web.StreamResponse:
    """Replace description and time of expiry."""
    fields = await request.fields()
    description, expires_at = fields.text("description", ""), fields.time("expires_at")
    return await _update(request, lambda found: replace(found, description=description, expires_at=expires_at))


async def patch(request: Request) -> web.StreamResponse:
    """Change description or time of expiry."""
    fields = await request.fields()

    def merge(found: VolumeSnapshot) -> VolumeSnapshot:
        expires_at = fields.time("expires_at") if fields.has("expires_at") else found.expires_at
        return replace(found, description=fields.text("description", found.description), expires_at=expires_at)

    return await _update(request, merge)


async def rename(request: Request) -> web.StreamResponse:
    """Start renaming a snapshot."""
    fields = await request.fields()
    new = fields.text("name")
    snapshots = request.services.volumes.snapshots
    return background(snapshots.rename(ref_of(request), request.parameters["snapshot"], new, caller=request.caller))


async def delete(request: Request) -> web.StreamResponse:
    """Start deleting a snapshot."""
    snapshots = request.services.volumes.snapshots
    return background(snapshots.delete(ref_of(request), request.parameters["snapshot"], caller=request.caller))


async def _update(request: Request, decide: Callable[[VolumeSnapshot], VolumeSnapshot]) -> web.StreamResponse:
    snapshots = request.services.volumes.snapshots
    decide = request.matching(snapshot_writable, decide)
    operation = snapshots.update(ref_of(request), request.parameters["snapshot"], decide, caller=request.caller)
    await request.services.operations.finish(operation)
    return sync()


ROUTES = (
    ("GET", _ROOT, list_all, Permission.VIEW),
    ("POST", _ROOT, create, Permission.EDIT),
    ("GET", _ONE, get, Permission.VIEW),
    ("PUT", _ONE, put, Permission.EDIT),
    ("PATCH", _ONE, patch, Permission.EDIT),
    ("POST", _ONE, rename, Permission.EDIT),
    ("DELETE", _ONE, delete, Permission.EDIT),
)
