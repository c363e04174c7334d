"""Aliases of images. A name may contain slashes, percent-encoded or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from isola.doors.rest.addresses import address, address_of
from isola.doors.rest.answers import created, sync
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.images import alias_json
from isola.errors import AlreadyExists, NotFound
from isola.model.image import Alias
from isola.model.names import alias_name
from isola.model.reference import Kind

_ROOT = "/1.0/images/aliases"


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or aliases."""
    aliases = [alias for alias in request.services.images.aliases() if request.lists(alias.entity)]
    if request.recursion:
        return sync([alias_json(alias) for alias in aliases])
    return sync([address(alias.entity) for alias in aliases])


async def create(request: Request) -> web.StreamResponse:
    """Create an alias of an existing image."""
    fields = await request.fields()
    images = request.services.images
    ref = request.ref(alias_name(fields.text("name")), Kind.IMAGE_ALIAS)
    if any(alias.ref == ref for alias in images.aliases()):
        raise AlreadyExists(f"Alias {ref.quoted} already exists", field="name")
    image = images.get(ref.renamed(fields.text("target")))
    alias = Alias(ref.name, image.fingerprint, fields.text("description", ""), image.type, ref.project)
    await images.add_alias(alias, caller=request.caller)
    return created(address(alias.entity))


async def get(request: Request) -> web.StreamResponse:
    """One alias; callers without access to the project see those of public images."""
    alias = _find(request) if request.caller.may_use(request.project) else _of_public_image(request)
    return sync(alias_json(alias), etag=alias_json(alias))


async def put(request: Request) -> web.StreamResponse:
    """Replace the target and the description."""
    fields = await request.fields()
    target, description = fields.text("target"), fields.text("description", "")
    return await _update(request, lambda alias: replace(alias, target=target, description=description))


async def patch(request: Request) -> web.StreamResponse:
    """Change the target or the description."""
    fields = await request.fields()
    return await _update(
        request,
        lambda alias: replace(
            alias,
            target=fields.text("target", "") or alias.target,
            description=fields.text("description", alias.description),
        ),
    )


async def rename(request: Request) -> web.StreamResponse:
    """Rename an alias."""
    fields = await request.fields()
    alias = _find(request)
    new = alias_name(fields.text("name"))
    await request.services.images.rename_alias(alias.ref, new, caller=request.caller)
    return created(address_of(Kind.IMAGE_ALIAS, alias.ref.renamed(new)))


async def delete(request: Request) -> web.StreamResponse:
    """Delete an alias; the image stays."""
    await request.services.images.remove_alias(_find(request).ref, caller=request.caller)
    return sync()


async def _update(request: Request, decide: Callable[[Alias], Alias]) -> web.StreamResponse:
    ref, matching = _find(request).ref, request.matching(alias_json, decide)
    await request.services.images.update_alias(ref, matching, caller=request.caller)
    return sync()


def _of_public_image(request: Request) -> Alias:
    name, images = request.parameters["alias"], request.services.images
    ref = request.ref(name, Kind.IMAGE_ALIAS)
    for alias in images.aliases():
        if alias.ref == ref and images.get(ref.renamed(alias.target)).public:
            return alias
    raise NotFound(f"Alias {name[:80]!r} not found")


def _find(request: Request) -> Alias:
    name = request.parameters["alias"]
    try:
        return request.services.images.alias(request.ref(name, Kind.IMAGE_ALIAS))
    except NotFound:
        offer = request.services.images.offers().get(name)
        remedy = f"an image source offers {name}: build it first" if offer is not None else ""
        raise NotFound(f"Alias {name[:80]!r} not found", remedy=remedy) from None


ROUTES = (
    ("GET", _ROOT, list_all, Permission.VIEW),
    ("POST", _ROOT, create, Permission.EDIT),
    ("GET", _ROOT + "/{alias...}", get, Permission.GUEST),
    ("PUT", _ROOT + "/{alias...}", put, Permission.EDIT),
    ("PATCH", _ROOT + "/{alias...}", patch, Permission.EDIT),
    ("POST", _ROOT + "/{alias...}", rename, Permission.EDIT),
    ("DELETE", _ROOT + "/{alias...}", delete, Permission.EDIT),
)
