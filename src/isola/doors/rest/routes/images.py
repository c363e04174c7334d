"""Images: listing, changing, exporting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from aiohttp import web

from isola.doors.http.reading import Fields
from isola.doors.rest.addresses import address
from isola.doors.rest.answers import background, sync
from isola.doors.rest.downloads import send_file, send_parts, send_pieces
from isola.doors.rest.filtering import select_records
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.images import by_target, image_json, writable
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.model.image import Image
from isola.model.image_reference import parse_full
from isola.model.reference import Kind

_FIELDS = ("metadata", "rootfs")


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or images."""
    images = request.services.images
    aliases = by_target(images.aliases())
    visible = [image for image in images if _listed(request, image)]
    found = select_records(
        visible, lambda image: image_json(image, aliases.get(image.ref, ())), request.query.get("filter", "")
    )
    return sync([shape if request.recursion else address(image.entity) for image, shape in found])


async def get(request: Request) -> web.StreamResponse:
    """One image, by its fingerprint or a prefix of it."""
    image = _visible(request)
    aliases = by_target(request.services.images.aliases())
    return sync(image_json(image, aliases.get(image.ref, ())), etag=writable(image))


async def put(request: Request) -> web.StreamResponse:
    """Replace properties, ``public``, ``auto_update``, profiles and expiry."""
    fields = await request.fields()
    return await _update(
        request,
        lambda image: replace(
            image,
            properties=fields.mapping("properties"),
            public=fields.boolean("public"),
            auto_update=fields.boolean("auto_update"),
            expires_at=fields.time("expires_at"),
            profiles=fields.texts("profiles") if fields.has("profiles") else image.profiles,
        ),
    )


async def patch(request: Request) -> web.StreamResponse:
    """Change some fields; an empty property is removed."""
    fields = await request.fields()

    def merge(image: Image) -> Image:
        merged = {**image.properties, **fields.mapping("properties", empty=True)}
        return replace(
            image,
            properties={key: value for key, value in merged.items() if value},
            public=fields.boolean("public", image.public),
            auto_update=fields.boolean("auto_update", image.auto_update),
            expires_at=_expiry(fields, image),
            profiles=fields.texts("profiles") if fields.has("profiles") else image.profiles,
        )

    return await _update(request, merge)


async def delete(request: Request) -> web.StreamResponse:
    """Start deleting an image; instances keep the content that they need."""
    return background(request.services.images.start_delete(_find(request).ref, caller=request.caller))


async def export(request: Request) -> web.StreamResponse:
    """The files from which the fingerprint is computed, unchanged: one, or metadata and root file system.

    With ``format=oci``, and for images without such files, an archive of the layout of OCI and ``docker save``. That
    of a published image has no names without ``format=oci``: its fingerprint is computed from it.
    """
    image, images = _visible(request), request.services.images
    if (wanted := request.query.get("format", "")) not in ("", "lxd", "oci"):
        raise InvalidInput("Unknown format", field="format", remedy="use lxd or oci")
    oci = wanted == "oci" or (not images.has_files(image.ref) and not wanted)
    files = [] if oci else images.export(image.ref)
    if request.http.method != "HEAD":
        request.services.events.lifecycle("image-retrieved", image.entity, caller=request.caller)
    if oci:
        names = sorted(alias.name for alias in images.names_of(image))
        pieces = images.archives.save([(image, names)]) if wanted else images.archives.export(image, names)
        return await send_pieces(request, f"{image.fingerprint}.oci.tar", pieces)
    if len(files) == 1:
        return await send_file(*files[0])
    return await send_parts(request, [(field, name, path) for field, (name, path) in zip(_FIELDS, files, strict=True)])


async def create_secret(request: Request) -> web.StreamResponse:
    """Create a token with which an untrusted client may download the image while the operation runs."""
    image = _find(request)
    operation = request.services.images.start_lending(image.ref, caller=request.caller)
    request.services.events.lifecycle("image-secret-created", image.entity, caller=request.caller)
    return background(operation)


async def refresh(request: Request) -> web.StreamResponse:
    """Start pulling the newest image of the name by which this one was pulled."""
    image = _find(request)
    reference = parse_full(image.source.get("reference", ""))
    if reference is None or not reference.tag:
        raise Unsupported("Only images that were pulled by a tag can be refreshed", remedy="build or import it again")
    operation = request.services.images.registries.start_pull(
        reference, platform=image.source.get("platform", ""), project=image.project, caller=request.caller
    )
    return background(operation)


async def _update(request: Request, decide: Callable[[Image], Image]) -> web.StreamResponse:
    ref, matching = _find(request).ref, request.matching(writable, decide)
    await request.services.images.update(ref, matching, caller=request.caller)
    return sync()


def _find(request: Request) -> Image:
    return request.services.images.get(request.ref(request.parameters["fingerprint"], Kind.IMAGE))


def _visible(request: Request) -> Image:
    """The image of the path. Callers without access to the project see public images, and those of their token."""
    image = _find(request)
    if request.caller.may_use(request.project) or image.public or _lent(request, image):
        return image
    raise NotFound(f"Image {request.parameters['fingerprint'][:80]!r} not found")


def _listed(request: Request, image: Image) -> bool:
    """Whether it is listed: public images to all, others to callers with access to the project."""
    if request.everywhere:
        return request.caller.may_use(image.project)
    return request.lists(image.entity) and (image.public or request.caller.may_use(request.project))


def _lent(request: Request, image: Image) -> bool:
    return request.services.images.is_lent(image, request.query.get("secret", ""))


def _expiry(fields: Fields, image: Image) -> datetime | None:
    return fields.time("expires_at") if fields.has("expires_at") else image.expires_at


ROUTES = (
    ("GET", "/1.0/images", list_all, Permission.GUEST),
    ("GET", "/1.0/images/{fingerprint}", get, Permission.GUEST),
    ("PUT", "/1.0/images/{fingerprint}", put, Permission.EDIT),
    ("PATCH", "/1.0/images/{fingerprint}", patch, Permission.EDIT),
    ("DELETE", "/1.0/images/{fingerprint}", delete, Permission.EDIT),
    ("GET", "/1.0/images/{fingerprint}/export", export, Permission.GUEST),
    ("POST", "/1.0/images/{fingerprint}/secret", create_secret, Permission.EDIT),
    ("POST", "/1.0/images/{fingerprint}/refresh", refresh, Permission.EDIT),
)
