"""Storage pools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from isola.doors.rest.acting import finished, verb_arguments
from isola.doors.rest.addresses import address
from isola.doors.rest.answers import created, sync
from isola.doors.rest.filtering import select
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.storage import pool_json, space_json, writable
from isola.errors import NotFound
from isola.model.names import plain_name
from isola.model.storage import Pool
from isola.projects.restrictions import shows_pool

_ROOT = "/1.0/storage-pools"


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or pools."""
    pools = request.services.pools
    shapes = select(
        [pool_json(pool, request.users(pools.used_by(pool.name))) for pool in pools if _shows(request, pool.name)],
        request.query.get("filter", ""),
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
    await finished(request, request.services.pool_verbs.create(pool, **verb_arguments(request)))
    return created(address(pool.entity))


async def get(request: Request) -> web.StreamResponse:
    """One pool."""
    pool = _find(request)
    return sync(pool_json(pool, request.users(request.services.pools.used_by(pool.name))), etag=writable(pool))


async def put(request: Request) -> web.StreamResponse:
    """Replace configuration and description."""
    fields = await request.fields()
    description, config = fields.text("description", ""), fields.mapping("config")
    return await _update(request, lambda pool: replace(pool, description=description, config=config))


async def patch(request: Request) -> web.StreamResponse:
    """Change some of them; an empty key is removed."""
    fields = await request.fields()

    def merge(pool: Pool) -> Pool:
        config = {key: value for key, value in {**pool.config, **fields.mapping("config", empty=True)}.items() if value}
        return replace(pool, description=fields.text("description", pool.description), config=config)

    return await _update(request, merge)


async def delete(request: Request) -> web.StreamResponse:
    """Delete it with its contents."""
    pool, services = _find(request), request.services
    await finished(request, services.pool_verbs.delete(pool.name, services.instances.look, **verb_arguments(request)))
    return sync()


async def resources(request: Request) -> web.StreamResponse:
    """Its size and use."""
    return sync(space_json(await request.services.pools.space(_find(request).name)))


async def _update(request: Request, decide: Callable[[Pool], Pool]) -> web.StreamResponse:
    name, matching = _find(request).name, request.matching(writable, decide)
    await finished(request, request.services.pool_verbs.update(name, matching, **verb_arguments(request)))
    return sync()


def _find(request: Request) -> Pool:
    """Raises NotFound, also for a pool in which the project of the request may have nothing."""
    pool = request.services.pools.get(request.parameters["pool"])
    if not _shows(request, pool.name):
        raise NotFound(f"Storage pool {pool.name!r} not found")
    return pool


def _shows(request: Request, pool: str) -> bool:
    project = request.services.projects.find(request.project)
    return project is None or shows_pool(project, pool)


ROUTES = (
    ("GET", _ROOT, list_all, Permission.TRUSTED),
    ("POST", _ROOT, create, Permission.ADMIN),
    ("GET", _ROOT + "/{pool}", get, Permission.TRUSTED),
    ("PUT", _ROOT + "/{pool}", put, Permission.ADMIN),
    ("PATCH", _ROOT + "/{pool}", patch, Permission.ADMIN),
    ("DELETE", _ROOT + "/{pool}", delete, Permission.ADMIN),
    ("GET", _ROOT + "/{pool}/resources", resources, Permission.TRUSTED),
)
