"""Storage volumes: custom volumes, and root volumes of instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from aiohttp import web

from isola.doors.rest.addresses import address
from isola.doors.rest.answers import background, created, sync
from isola.doors.rest.filtering import select
from isola.doors.rest.request import Request
from isola.doors.rest.root_volumes import change_root
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.volumes import (
    root_snapshot_volume_json,
    root_volume_json,
    root_volume_writable,
    snapshot_volume_json,
    volume_json,
    volume_writable,
)
from isola.doors.rest.uploads import receive, scratch
from isola.doors.rest.volumes import (
    ROOTS,
    custom_of,
    home_of,
    other_home,
    pool_of,
    ref_of,
    root_of,
    roots_in,
    target_home,
    type_of,
)
from isola.errors import InvalidInput, Unsupported
from isola.host.cancellation import finish
from isola.model.storage import Pool
from isola.model.volume import CUSTOM, FILESYSTEM, ISO, VolumeRecord, VolumeRef

_BINARY = "application/octet-stream"
_ROOT = "/1.0/storage-pools/{pool}/volumes"
_ONE = f"{_ROOT}/{{type}}/{{volume}}"


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or volumes with their snapshots: custom volumes, and root volumes of instances."""
    pool, kind = pool_of(request), type_of(request)
    shapes = select(list(_shapes(request, pool, kind)), request.query.get("filter", ""))
    return sync(shapes if request.recursion else [_address(pool, shape) for shape in shapes])


async def create(request: Request) -> web.StreamResponse:
    """Create a custom volume, empty or as a copy of a volume or snapshot, or refresh a copy (an operation)."""
    if request.http.headers.get("Content-Type") == _BINARY:  # ``content_type`` is the same for no header
        return await _import_disc(request)
    fields = await request.fields()
    kind = type_of(request) or fields.text("type", CUSTOM)
    ref = VolumeRef(pool_of(request).name, kind, home_of(request), fields.text("name"))
    source, config = fields.inside("source"), fields.mapping("config")
    volumes = request.services.volumes
    if source.text("type", "") in {"", "none"}:
        content = fields.text("content_type", "") or FILESYSTEM
        operation = await volumes.create(
            ref, config, fields.text("description", ""), content=content, caller=request.caller
        )
        await request.services.operations.finish(operation)
        return created(address(ref.entity))
    if source.text("type") != "copy":
        raise Unsupported("Volumes are copied on this server only", remedy="use source.type copy")
    name, _, snapshot = source.text("name").partition("/")
    origin = VolumeRef(
        source.text("pool", "") or ref.pool, CUSTOM, other_home(request, source.text("project", "")), name
    )
    if source.boolean("refresh") and ref in {each.ref for each in volumes.in_pool(ref.pool)}:
        with_snapshots = not source.boolean("volume_only")
        return background(
            volumes.refresh(origin, ref, snapshot=snapshot, with_snapshots=with_snapshots, caller=request.caller)
        )
    operation = await volumes.copy(
        origin,
        ref,
        snapshot=snapshot,
        config=config or None,
        description=fields.text("description", "") or None,
        with_snapshots=not source.boolean("volume_only"),
        caller=request.caller,
    )
    return background(operation)


async def get(request: Request) -> web.StreamResponse:
    """One volume."""
    if type_of(request) != CUSTOM:
        instance = root_of(request)
        return sync(root_volume_json(instance), etag=root_volume_writable(instance))
    record = custom_of(request)
    return sync(
        volume_json(record, request.users(request.services.volumes.used_by(record.ref))), etag=volume_writable(record)
    )


async def put(request: Request) -> web.StreamResponse:
    """Replace configuration and description, or with ``restore`` restore the named snapshot."""
    fields = await request.fields()
    if type_of(request) in ROOTS:
        await change_root(request, fields, partial=False)
        return sync()
    if snapshot := fields.text("restore", ""):
        ref = ref_of(request)
        request.matching(volume_writable, lambda record: record)(request.services.volumes.get(ref))
        await request.services.operations.finish(
            request.services.volumes.snapshots.restore(ref, snapshot, caller=request.caller)
        )
        return sync()
    description, config = fields.text("description", ""), fields.mapping("config")
    return await _update(request, lambda record: replace(record, description=description, config=config))


async def patch(request: Request) -> web.StreamResponse:
    """Change some fields; an empty key is removed."""
    fields = await request.fields()
    if type_of(request) in ROOTS:
        await change_root(request, fields, partial=True)
        return sync()

    def merge(record: VolumeRecord) -> VolumeRecord:
        changes = fields.mapping("config", empty=True)
        config = {key: value for key, value in {**record.config, **changes}.items() if value}
        return replace(record, description=fields.text("description", record.description), config=config)

    return await _update(request, merge)


async def post(request: Request) -> web.StreamResponse:
    """Rename a volume, or move it to another pool or project; only moving is an operation."""
    fields = await request.fields()
    ref = ref_of(request)
    if fields.boolean("migration"):
        raise Unsupported("Volumes are moved on this server only", remedy="name a pool of it")
    target = VolumeRef(
        fields.text("pool", "") or ref.pool,
        ref.kind,
        target_home(request, fields.text("project", "")),
        fields.text("name"),
    )
    if fields.text("pool", "") and target.pool not in {pool.name for pool in request.services.pools}:
        raise InvalidInput(f"Storage pool {target.pool[:80]!r} not found", field="pool")
    operation = await request.services.volumes.move(ref, target, caller=request.caller)
    if (target.pool, target.project) != (ref.pool, ref.project):
        return background(operation)
    await request.services.operations.finish(operation)
    return created(address(target.entity))


async def delete(request: Request) -> web.StreamResponse:
    """Delete an unused volume with its snapshots."""
    await request.services.operations.finish(
        await request.services.volumes.delete(ref_of(request), caller=request.caller)
    )
    return sync()


async def state(request: Request) -> web.StreamResponse:
    """The space that a volume uses."""
    if type_of(request) != CUSTOM:
        instance = root_of(request)
        disk = (await request.services.instances.state(instance, disk=True)).disk
        return sync({"usage": {"used": disk.get("root", 0), "total": int(instance.volatile.get("root.size") or 0)}})
    usage = await request.services.volumes.usage(ref_of(request))
    return sync({"usage": {"used": usage.used, "total": usage.total}})


async def _update(request: Request, decide: Callable[[VolumeRecord], VolumeRecord]) -> web.StreamResponse:
    decide = request.matching(volume_writable, decide)
    await request.services.operations.finish(
        await request.services.volumes.update(ref_of(request), decide, caller=request.caller)
    )
    return sync()


def _shapes(request: Request, pool: Pool, kind: str) -> Iterator[dict[str, object]]:
    if kind in {"", *ROOTS}:
        taken = request.services.instances.snapshots.of_all()
        for instance in (each for each in roots_in(request, pool) if kind in {"", each.type}):
            yield root_volume_json(instance)
            yield from (root_snapshot_volume_json(instance, each) for each in taken.get(instance.id, ()))
    if kind in {"", CUSTOM}:
        volumes = request.services.volumes
        for record in volumes.in_pool(pool.name):
            if request.lists(record.ref.entity):
                users = request.users(volumes.used_by(record.ref))
                yield volume_json(record, users)
                yield from (snapshot_volume_json(record, each, users) for each in volumes.snapshots.of(record.ref))


def _address(pool: Pool, shape: Mapping[str, object]) -> str:
    name, _, snapshot = str(shape["name"]).partition("/")
    ref = VolumeRef(pool.name, str(shape["type"]), str(shape["project"]), name)
    return address(ref.snapshot(snapshot) if snapshot else ref.entity)


async def _import_disc(request: Request) -> web.StreamResponse:
    """The body is an ISO image, the headers say the rest, as LXD's clients send them."""
    if request.header("type") != ISO:
        raise Unsupported("Backups of volumes cannot be imported yet", remedy="send an ISO image, with X-LXD-type: iso")
    ref = VolumeRef(pool_of(request).name, CUSTOM, home_of(request), request.header("name"))
    directory, files = await scratch(request), request.services.host.files
    try:
        (file,) = (await receive(request, directory)).files
        operation = await request.services.volumes.create(ref, {}, content=ISO, disc=file, caller=request.caller)
    except BaseException:
        await finish(files.remove_tree(directory))
        raise
    return background(operation)


ROUTES = (
    ("GET", _ROOT, list_all, Permission.VIEW),
    ("POST", _ROOT, create, Permission.EDIT),
    ("GET", f"{_ROOT}/{{type}}", list_all, Permission.VIEW),
    ("POST", f"{_ROOT}/{{type}}", create, Permission.EDIT),
    ("GET", _ONE, get, Permission.VIEW),
    ("PUT", _ONE, put, Permission.EDIT),
    ("PATCH", _ONE, patch, Permission.EDIT),
    ("POST", _ONE, post, Permission.EDIT),
    ("DELETE", _ONE, delete, Permission.EDIT),
    ("GET", f"{_ONE}/state", state, Permission.VIEW),
)
