"""Storage pools, and the volumes in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from aiohttp import web

from isola.doors.rest.acting import done
from isola.doors.rest.addresses import address, addresses, in_project
from isola.doors.rest.answers import created, sync
from isola.doors.rest.filtering import select
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.storage import pool_json, root_volume_json, space_json, writable
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.model.instance import Instance
from isola.model.names import plain_name
from isola.model.storage import Pool

_ROOT = "/1.0/storage-pools"
_TYPES = ("container", "virtual-machine", "custom", "image")


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or pools."""
    pools = request.services.pools
    shapes = select(
        [pool_json(pool, addresses(pools.used_by(pool.name))) for pool in pools], request.query.get("filter", "")
    )
    return sync(shapes if request.recursion else [f"{_ROOT}/{shape['name']}" for shape in shapes])


async def create(request: Request) -> web.StreamResponse:
    """A new pool."""
    fields = await request.fields()
    pool = Pool(
        name=plain_name(fields.text("name")),
        driver=fields.text("driver"),
        description=fields.text("description", ""),
        config=fields.mapping("config"),
    )
    pools = request.services.pools
    await done(request, "Creating storage pool", pool.entity, lambda op: pools.create(op, pool))
    return created(address(pool.entity))


async def get(request: Request) -> web.StreamResponse:
    """One pool."""
    pool = _find(request)
    return sync(pool_json(pool, addresses(request.services.pools.used_by(pool.name))), etag=writable(pool))


async def put(request: Request) -> web.StreamResponse:
    """Replace configuration and description."""
    fields = await request.fields()
    description, config = fields.text("description", ""), fields.mapping("config")
    return await _update(request, lambda pool: replace(pool, description=description, config=config))


async def patch(request: Request) -> web.StreamResponse:
    """Change some of them; a key set to nothing goes."""
    fields = await request.fields()

    def merge(pool: Pool) -> Pool:
        config = {key: value for key, value in {**pool.config, **fields.mapping("config", empty=True)}.items() if value}
        return replace(pool, description=fields.text("description", pool.description), config=config)

    return await _update(request, merge)


async def delete(request: Request) -> web.StreamResponse:
    """Remove it with what it holds."""
    pool = _find(request)
    pools = request.services.pools
    await done(request, "Deleting storage pool", pool.entity, lambda op: pools.delete(op, pool.name))
    return sync()


async def resources(request: Request) -> web.StreamResponse:
    """Its size and use."""
    return sync(space_json(await request.services.pools.space(_find(request).name)))


async def volumes(request: Request) -> web.StreamResponse:
    """Paths, or volumes: the roots of instances."""
    pool = _find(request)
    kind = _type(request)
    shapes = [root_volume_json(instance) for instance in _roots(request, pool)] if kind == "container" else []
    shapes = select(shapes, request.query.get("filter", ""))
    if request.recursion:
        return sync(shapes)
    return sync([_volume_address(pool, shape) for shape in shapes])


async def volume(request: Request) -> web.StreamResponse:
    """One volume."""
    shape = root_volume_json(_root(request))
    return sync(shape, etag={"config": shape["config"], "description": shape["description"]})


async def volume_state(request: Request) -> web.StreamResponse:
    """What it takes of its pool."""
    state = await request.services.instances.state(_root(request), disk=True)
    return sync({"usage": {"used": state.disk.get("root", 0), "total": 0}})


async def no_volume_snapshots(request: Request) -> web.StreamResponse:
    """An empty list: there are no snapshots."""
    _root(request)
    return sync([])


async def refuse_volume(request: Request) -> web.StreamResponse:
    """Refused: custom volumes are not offered yet, and an instance's root comes and goes with it."""
    _find(request)
    raise Unsupported(
        "Volumes of their own are not offered yet", remedy="the root of an instance is changed through its devices"
    )


def _volume_address(pool: Pool, shape: Mapping[str, object]) -> str:
    return in_project(f"{_ROOT}/{pool.name}/volumes/{shape['type']}/{shape['name']}", str(shape["project"]))


async def _update(request: Request, decide: Callable[[Pool], Pool]) -> web.StreamResponse:
    name, matching = _find(request).name, request.matching(writable, decide)
    await request.services.pools.update(name, matching, caller=request.caller)
    return sync()


async def refuse_snapshot(request: Request) -> web.StreamResponse:
    """Refused: snapshots are not offered yet."""
    _root(request)
    raise Unsupported("Snapshots are not offered yet")


def _find(request: Request) -> Pool:
    return request.services.pools.get(request.parameters["pool"])


def _type(request: Request) -> str:
    """Which volumes are asked for; where none are named, those that there are."""
    kind = request.parameters.get("type", "container")
    if kind not in _TYPES:
        raise InvalidInput(f"Unknown type of volumes {kind[:40]!r}", field="type", remedy=f"use {', '.join(_TYPES)}")
    return kind


def _roots(request: Request, pool: Pool) -> Iterator[Instance]:
    listed = (each for each in request.services.instances if request.lists(each.entity))
    return (each for each in listed if each.volatile.get("root.pool") == pool.name)


def _root(request: Request) -> Instance:
    pool, name = _find(request), request.parameters["volume"]
    for instance in _roots(request, pool) if _type(request) == "container" else ():
        if instance.name == name:
            return instance
    raise NotFound(f"Storage volume {name[:80]!r} not found in pool {pool.name!r}")


ROUTES = (
    ("GET", _ROOT, list_all, Permission.TRUSTED),
    ("POST", _ROOT, create, Permission.ADMIN),
    ("GET", _ROOT + "/{pool}", get, Permission.TRUSTED),
    ("PUT", _ROOT + "/{pool}", put, Permission.ADMIN),
    ("PATCH", _ROOT + "/{pool}", patch, Permission.ADMIN),
    ("DELETE", _ROOT + "/{pool}", delete, Permission.ADMIN),
    ("GET", _ROOT + "/{pool}/resources", resources, Permission.TRUSTED),
    ("GET", _ROOT + "/{pool}/volumes", volumes, Permission.VIEW),
    ("POST", _ROOT + "/{pool}/volumes", refuse_volume, Permission.EDIT),
    ("GET", _ROOT + "/{pool}/volumes/{type}", volumes, Permission.VIEW),
    ("POST", _ROOT + "/{pool}/volumes/{type}", refuse_volume, Permission.EDIT),
    ("GET", _ROOT + "/{pool}/volumes/{type}/{volume}", volume, Permission.VIEW),
    *(
        (method, _ROOT + "/{pool}/volumes/{type}/{volume}", refuse_volume, Permission.EDIT)
        for method in ("PUT", "PATCH", "POST", "DELETE")
    ),
    ("GET", _ROOT + "/{pool}/volumes/{type}/{volume}/state", volume_state, Permission.VIEW),
    ("GET", _ROOT + "/{pool}/volumes/{type}/{volume}/snapshots", no_volume_snapshots, Permission.VIEW),
    ("POST", _ROOT + "/{pool}/volumes/{type}/{volume}/snapshots", refuse_snapshot, Permission.EDIT),
)
