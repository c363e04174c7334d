"""Images: listing, pulling, pushing, naming, removing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web

from isola.doors.docker.answers import answer, empty
from isola.doors.docker.architectures import require_platform_name
from isola.doors.docker.identity import container_id
from isola.doors.docker.image_lookup import check_platform, find_image
from isola.doors.docker.images import pulling, shapes
from isola.doors.docker.images.counting import containers_by_image, shared_sizes
from isola.doors.docker.images.names import Names, familiar, names_by_image, names_of
from isola.doors.docker.images.pushing import push as push_lines
from isola.doors.docker.images.removal import delete, delete_unnamed, is_used, made_of, remove
from isola.doors.docker.images.selecting import (
    LISTED,
    PRUNED,
    check_filters,
    is_dangling,
    require_one_end,
    select,
    shown_names,
)
from isola.doors.docker.images.stream import send
from isola.doors.docker.request import Request
from isola.doors.docker.routes.image_archives import import_root
from isola.doors.docker.routing import Permission, Route
from isola.errors import InvalidInput
from isola.model.image import Image
from isola.model.image_reference import ImageReference, parse
from isola.model.reference import Kind, Ref

_ALGORITHM = "sha256"
_WITHOUT_CONTAINER = (1, 45)
"""From this version on an image says nothing of the container that it was made of."""
_COUNTED = (1, 51)
"""From this version on lists always say how many containers use an image."""


async def list_all(request: Request) -> web.StreamResponse:
    """All images of the project, newest first."""
    filters = request.filters()
    check_filters(filters, LISTED)
    names, own = names_by_image(request), _own(request)
    found = select(request, own, names, filters)
    found.sort(key=lambda each: each[0].created_at, reverse=True)
    counted, detailed = request.flag("shared-size"), request.flag("manifests")
    counts = containers_by_image(request) if counted or detailed or request.version >= _COUNTED else None
    shared = shared_sizes(own) if counted else {}
    lines = []
    for image, named in found:
        line = _summary(request, image, shown_names(named, filters), counts, detailed=detailed)
        lines.append(line | {"SharedSize": shared.get(image.fingerprint, -1)})
    return answer(lines)


def _summary(
    request: Request, image: Image, names: Names, counts: Mapping[str, Sequence[str]] | None, *, detailed: bool
) -> dict[str, object]:
    """``counts``: ids of instances by image; None if they are not counted."""
    at, here = request.services.images.manifest(image), (counts or {}).get(image.fingerprint, ())
    shape = shapes.summary(
        image, at, names, len(here) if counts is not None and request.version >= _COUNTED else -1, request.version
    )
    if detailed:
        shape["Manifests"] = shapes.manifests(image, at, [container_id(id) for id in here])
    return shape


def _containers(request: Request, image: Image) -> list[str]:
    return [container_id(user.id) for user in made_of(request, image)]


def _own(request: Request) -> list[Image]:
    home = request.home(Kind.IMAGE)
    return [image for image in request.services.images if image.project == home]


def _is_old_compose(request: Request) -> bool:
    """Debian 12's docker-compose asks for the newest version, and ends without fields that it no longer has."""
    return request.http.headers.get("User-Agent", "").startswith("docker-compose/1.")


async def inspect(request: Request) -> web.StreamResponse:
    """One image."""
    if request.flag("manifests") and request.query.get("platform"):
        raise InvalidInput("conflicting options: manifests and platform options cannot both be set")
    images = request.services.images
    image = find_image(request, request.parameters["name"])
    check_platform(request, image, request.parameters["name"])
    at, config = images.manifest(image), await images.configuration(image)
    shape = shapes.details(image, at, config, names_of(request, image), request.version)
    if request.version < _WITHOUT_CONTAINER or _is_old_compose(request):
        shape |= shapes.container_shape(config)
    if request.flag("manifests"):
        shape["Manifests"] = shapes.manifests(image, at, _containers(request, image))
    return answer(shape)


async def history(request: Request) -> web.StreamResponse:
    """The steps by which an image was made."""
    image = find_image(request, request.parameters["name"])
    check_platform(request, image, request.parameters["name"])
    config = await request.services.images.configuration(image)
    return answer(shapes.history(image, config, names_of(request, image).tags))


async def create(request: Request) -> web.StreamResponse:
    """Pull an image, or with ``fromSrc`` make one of a root file system."""
    query = request.query
    if query.get("fromSrc"):
        return await import_root(request)
    name, tag = query.get("fromImage", ""), query.get("tag", "")
    reference, platform = _wanted(parse(name), tag), require_platform_name(query.get("platform", ""))
    lines = pulling.pull_all if reference.is_name_only else pulling.pull
    return await send(
        request,
        lines(request, reference, platform),
        lambda error: pulling.pull_refusal(reference, error),
    )


def _wanted(reference: ImageReference, tag: str) -> ImageReference:
    """With the tag or digest that is given apart from the name."""
    if not tag:
        return reference
    return reference.at(digest=tag) if ":" in tag else reference.at(tag=tag)


async def push(request: Request) -> web.StreamResponse:
    """Push one tag of a repository, or all."""
    reference = parse(request.parameters["name"])
    if reference.digest:
        raise InvalidInput("cannot push a digest reference", field="name")
    reference = _wanted(reference, request.query.get("tag", ""))
    if request.query.get("platform"):
        named = reference.tagged().familiar
        check_platform(request, find_image(request, named), named)
    return await send(request, push_lines(request, reference), lambda error: None)


async def tag(request: Request) -> web.StreamResponse:
    """Give an image another name."""
    image = find_image(request, request.parameters["name"])
    repository = parse(request.query.get("repo", ""))
    if repository.digest:
        raise InvalidInput("refusing to create a tag with a digest reference", field="repo")
    if repository.familiar_name == _ALGORITHM:
        raise InvalidInput("refusing to create an ambiguous tag using digest algorithm as name", field="repo")
    target = _wanted(repository, request.query.get("tag", "")).tagged()
    await request.services.images.point_alias(Ref(image.project, target.full), image.fingerprint, caller=request.caller)
    return empty(201)


async def remove_one(request: Request) -> web.StreamResponse:
    """Remove a name, or an image."""
    name = request.parameters["name"]
    if not name.strip():
        raise InvalidInput("image name cannot be blank")
    for text in request.values("platforms"):
        check_platform(request, find_image(request, name), name, text)
    return answer(await remove(request, name, force=request.flag("force")))


async def prune(request: Request) -> web.StreamResponse:
    """Remove unused images without a name, or with ``dangling=false`` all unused ones."""
    filters = dict(request.filters())
    check_filters(filters, PRUNED)
    require_one_end(filters)
    dangling = is_dangling(filters, True)
    filters.pop("dangling", None)
    records, freed = [], 0
    for image, names in select(request, _own(request), names_by_image(request), filters):
        if (dangling and names.aliases) or is_used(request, image):
            continue
        records += [{"Untagged": familiar(alias.name)} for alias in names.aliases]
        deleted = await (delete_unnamed if dangling else delete)(request, image)
        records += deleted
        freed += image.size if deleted else 0
    request.history.tell("image", "prune", reclaimed=str(freed))
    return answer({"ImagesDeleted": records or None, "SpaceReclaimed": freed})


ROUTES: tuple[Route, ...] = (
    ("GET", "/images/json", list_all, Permission.VIEW),
    ("POST", "/images/create", create, Permission.EDIT),
    ("POST", "/images/prune", prune, Permission.EDIT),
    ("GET", "/images/{name...}/json", inspect, Permission.VIEW),
    ("GET", "/images/{name...}/history", history, Permission.VIEW),
    ("POST", "/images/{name...}/push", push, Permission.EDIT),
    ("POST", "/images/{name...}/tag", tag, Permission.EDIT),
    ("DELETE", "/images/{name...}", remove_one, Permission.EDIT),
)
