"""Instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from aiohttp import web

from isola.doors.http.reading import Fields
from isola.doors.rest.addresses import in_project
from isola.doors.rest.answers import background, sync, sync_bytes
from isola.doors.rest.filtering import Match, parse_filter
from isola.doors.rest.instance_types import limits_of
from isola.doors.rest.lookup import instance_of, instances_of, scope_of
from isola.doors.rest.programs import program_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.doors.rest.shapes.instances import writable
from isola.doors.rest.sources import image_of
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.instances.copy import Source
from isola.instances.move import Destination
from isola.model.instance import Config, Instance, InstanceRequest, InstanceUpdate
from isola.model.names import instance_name
from isola.model.reference import Ref
from isola.operations import Operation


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, instances, or instances with their states."""
    match = parse_filter(request.query.get("filter", ""))
    recursion, rendering = request.recursion, request.rendering
    if recursion and match is None:
        scope, choose = scope_of(request), partial(instances_of, request)
        whole = rendering.every(scope, choose) if recursion == 1 else await rendering.every_full(scope, choose)
        return sync_bytes(whole)
    chosen = _chosen(request, match)
    if recursion == 0:
        return sync([in_project(f"/1.0/{request.tree}/{instance.name}", instance.project) for instance in chosen])
    if recursion == 1:
        return sync_bytes(rendering.many(chosen))
    return sync_bytes(await rendering.many_full(chosen, match))


async def create(request: Request) -> web.StreamResponse:
    """Start creating an instance from an image or as a copy, or refreshing a copy; ``start`` starts it, too."""
    if request.http.headers.get("Content-Type", "").startswith("application/octet-stream"):
        raise Unsupported("Importing a backup is not offered yet", field="body")
    fields = await request.fields()
    instances, source = request.services.instances, fields.inside("source")
    if source.text("type", "") == "copy":
        origin = _source_of(source, request)
        wanted = _request_of(fields, request, None)
        made = Ref(request.project, wanted.name or "")
        if source.boolean("refresh") and made in {instance.ref for instance in instances}:
            return background(instances.refresh(origin, made, caller=request.caller))
        return background(instances.copy(origin, wanted, caller=request.caller))
    creation = _request_of(fields, request, image_of(source, request))
    return background(instances.create(creation, caller=request.caller))


async def get(request: Request) -> web.StreamResponse:
    """One instance; with ``recursion=1`` including its state."""
    instance = instance_of(request)
    if request.recursion:
        instance, body = await request.rendering.full(instance, disk=True)
    else:
        body = request.rendering.one(instance)
    return sync_bytes(body, etag=writable(instance, request.services.instances.config(instance)))


async def put(request: Request) -> web.StreamResponse:
    """Start replacing configuration, devices, profiles and description; with ``restore``, restoring a snapshot."""
    fields = await request.fields()
    if snapshot := fields.text("restore", ""):
        return background(_restore(request, snapshot, stateful=fields.boolean("stateful")))

    def replaced(instance: Instance) -> InstanceUpdate:
        return InstanceUpdate(
            config=fields.mapping("config"),
            devices=fields.mappings("devices"),
            profiles=fields.texts("profiles"),
            description=fields.text("description", ""),
            ephemeral=fields.boolean("ephemeral"),
            architecture=fields.text("architecture", "") or instance.architecture,
        )

    return background(_update(request, replaced))


async def patch(request: Request) -> web.StreamResponse:
    """Change some fields; the response is sent when the change is complete."""
    fields = await request.fields()
    instances = request.services.instances
    operation = _update(request, lambda instance: _merged(fields, instance, instances.config(instance)))
    await request.services.operations.finish(operation)
    return sync()


async def rename(request: Request) -> web.StreamResponse:
    """Start renaming an instance, or moving it to another pool, project or isolation."""
    fields = await request.fields()
    instance = instance_of(request)
    migration = fields.boolean("migration")
    # Clients that send all fields send these empty when they only rename.
    changing = migration and any(fields.has(_spelling(fields, each)) for each in ("config", "devices", "profiles"))
    elsewhere = any(fields.text(each, "") for each in ("pool", "isolation", "runtime"))
    if changing or elsewhere or fields.text("project", "") not in ("", instance.project):
        return background(_move(request, fields, instance))
    if migration:
        raise Unsupported(
            "Moving an instance to another server is not offered yet",
            field="migration",
            remedy="name a pool or a project of this one",
        )
    return background(
        request.services.instances.rename(instance.ref, instance_name(fields.text("name")), caller=request.caller)
    )


async def delete(request: Request) -> web.StreamResponse:
    """Start deleting an instance; a running one only with ``force=1``."""
    instance = instance_of(request)
    return background(
        request.services.instances.delete(instance.ref, force=request.flag("force"), caller=request.caller)
    )


def _move(request: Request, fields: Fields, instance: Instance) -> Operation:
    project = fields.text("project", "") or instance.project
    if not request.caller.may_use(project):
        raise NotFound(f"Project {project[:80]!r} not found", field="project")
    name, profiles = fields.text("name", "") or instance.name, _spelling(fields, "profiles")
    destination = Destination(
        Ref(project, name if name == instance.name else instance_name(name)),
        pool=fields.text("pool", ""),
        with_snapshots=not (fields.boolean("instance_only") or fields.boolean("container_only")),
        config=fields.mapping(_spelling(fields, "config"), empty=True),
        devices=fields.mappings(_spelling(fields, "devices")),
        profiles=fields.texts(profiles) if fields.has(profiles) else None,
        isolation=fields.text("isolation", ""),
        runtime=fields.text("runtime", ""),
    )
    return request.services.instances.move(instance.ref, destination, caller=request.caller)


def _spelling(fields: Fields, name: str) -> str:
    """The field's name as it was sent: Incus's client capitalizes some fields of a move."""
    return name if fields.has(name) else name.capitalize()


def _update(request: Request, decide: Callable[[Instance], InstanceUpdate]) -> Operation:
    """``If-Match`` is checked now, and again at the operation's turn, since the record may change in between."""
    instances = request.services.instances

    def shown(instance: Instance) -> object:
        return writable(instance, instances.config(instance))

    return instances.update(instance_of(request).ref, request.matching(shown, decide), caller=request.caller)


def _chosen(request: Request, match: Match | None) -> Sequence[Instance]:
    instances = instances_of(request)
    if match is None:
        return instances
    return [instance for instance in instances if match(request.rendering.shape(instance))]


def _request_of(fields: Fields, request: Request, image: str | None) -> InstanceRequest:
    if fields.boolean("stateful"):
        raise Unsupported("Creating from a stateful snapshot is not offered yet", field="stateful")
    return InstanceRequest(
        name=instance_name(fields.text("name")) if fields.text("name", "") else None,
        project=request.project,
        image=image,
        type=fields.text("type", "") or _type_of(request),
        isolation=fields.text("isolation", ""),
        runtime=fields.text("runtime", "") or None,
        architecture=fields.text("architecture", "") or None,
        description=fields.text("description", ""),
        config=limits_of(fields.text("instance_type", "")) | fields.mapping("config"),
        devices=fields.mappings("devices"),
        profiles=fields.texts("profiles") if fields.has("profiles") else None,
        ephemeral=fields.boolean("ephemeral"),
        start=fields.boolean("start"),
        program=program_of(fields),
        terminal=fields.boolean("terminal", default=True),
        stdin=fields.boolean("stdin"),
    )


def _source_of(source: Fields, request: Request) -> Source:
    """``web1`` or ``web1/snap0``, in the request's project or another one that the caller may use."""
    name, _, snapshot = source.text("source", "").partition("/")
    if not name:
        raise InvalidInput("No instance is named", field="source.source", remedy="name one, or one/snapshot")
    project = source.text("project", "") or request.project
    if not request.caller.may_use(project):
        raise NotFound(f"Project {project[:80]!r} not found", field="source.project")
    alone = source.boolean("instance_only") or source.boolean("container_only")
    return Source(Ref(project, name), snapshot, with_snapshots=not alone)


def _type_of(request: Request) -> str:
    return "virtual-machine" if request.tree == "virtual-machines" else ""


def _merged(fields: Fields, instance: Instance, config: Config) -> InstanceUpdate:
    return InstanceUpdate(
        config=dict(config) | fields.mapping("config", empty=True),
        devices={**instance.devices, **fields.mappings("devices")},
        profiles=fields.texts("profiles") if fields.has("profiles") else instance.profiles,
        description=fields.text("description", instance.description),
        ephemeral=fields.boolean("ephemeral", instance.ephemeral),
        architecture=fields.text("architecture", instance.architecture),
    )


def _restore(request: Request, snapshot: str, *, stateful: bool) -> Operation:
    instances, instance = request.services.instances, instance_of(request)
    # LXD's clients send ``web1/snap0`` for ``snap0``.
    name = snapshot.removeprefix(f"{instance.name}/")

    def shown(found: Instance) -> object:
        return writable(found, instances.config(found))

    request.matching(shown, lambda found: found)(instance)
    return instances.snapshots.restore(instance.ref, name, stateful=stateful, caller=request.caller)


ROUTES = in_every_tree(
    ("GET", "/1.0/instances", list_all, Permission.VIEW),
    ("POST", "/1.0/instances", create, Permission.EDIT),
    ("GET", "/1.0/instances/{name}", get, Permission.VIEW),
    ("PUT", "/1.0/instances/{name}", put, Permission.EDIT),
    ("PATCH", "/1.0/instances/{name}", patch, Permission.EDIT),
    ("POST", "/1.0/instances/{name}", rename, Permission.EDIT),
    ("DELETE", "/1.0/instances/{name}", delete, Permission.EDIT),
)
