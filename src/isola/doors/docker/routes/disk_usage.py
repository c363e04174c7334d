"""Disk usage of images, containers and volumes."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from isola.access import refusal
from isola.doors.docker.answers import answer
from isola.doors.docker.build_records import Record, records
from isola.doors.docker.containers.sizes import sizes_of
from isola.doors.docker.containers.summary import Named, images_by_name, summary
from isola.doors.docker.containers.view import view
from isola.doors.docker.identity import containers_of
from isola.doors.docker.images import shapes
from isola.doors.docker.images.counting import containers_by_image, shared_sizes
from isola.doors.docker.images.names import Names, names_by_image
from isola.doors.docker.request import Request
from isola.doors.docker.routes.volumes import volume_json, volumes_of
from isola.doors.docker.routing import Permission
from isola.errors import InvalidInput, IsolaError
from isola.model.instance import Instance
from isola.model.reference import Kind
from isola.model.volume import VolumeRecord

_TYPES = ("container", "image", "volume", "build-cache")


async def get(request: Request) -> web.StreamResponse:
    """All of it, or the kinds that ``type`` names. Containers and volumes are walked."""
    types = request.values("type") or list(_TYPES)
    for each in types:
        if each not in _TYPES:
            raise InvalidInput(f"unknown object type: {each[:40]}", field="type")
    found: dict[str, Any] = dict.fromkeys(("Images", "Containers", "Volumes", "BuildCache"))
    if "image" in types:
        found |= _images(request)
    if "container" in types:
        named = images_by_name(request)
        found["Containers"] = [await _container(request, each, named) for each in containers_of(request)]
    if "volume" in types:
        found["Volumes"] = [await _volume(request, each) for each in volumes_of(request)]
    if "build-cache" in types:
        found["BuildCache"] = await _build_cache(request)
    return answer(found)


def _images(request: Request) -> dict[str, Any]:
    """A layer that several images have counts once in the sum."""
    home = request.home(Kind.IMAGE)
    images = [image for image in request.services.images if image.project == home]
    layers = {layer.digest: layer.size for image in images for layer in image.layers}
    shared, names, containers = shared_sizes(images), names_by_image(request), containers_by_image(request)
    shown = []
    for image in images:
        at, count = request.services.images.manifest(image), len(containers.get(image.fingerprint, ()))
        shape = shapes.summary(image, at, names.get(image.fingerprint, Names()), count, request.version)
        shown.append(shape | {"SharedSize": shared[image.fingerprint]})
    return {"LayersSize": sum(layers.values()), "Images": shown}


async def _build_cache(request: Request) -> list[dict[str, Any]]:
    """Results are those of all projects: who is restricted to some sees their sum as one record."""
    builds = request.services.builds
    if not refusal(request.caller, Permission.ADMIN, request.project):
        return [each.document(request.version) for each in await records(request.services)]
    sum_of_all = Record("results", "regular", "results of steps", builds.cache_size, created_at=builds.cached_since)
    return [sum_of_all.document(request.version)] if builds.cache_size else []


async def _container(request: Request, instance: Instance, named: Named) -> dict[str, Any]:
    seen = view(request, instance)
    line = summary(request, seen, named) | {"Status": seen.status}
    line["SizeRw"], line["SizeRootFs"] = await sizes_of(request, instance)
    return line


async def _volume(request: Request, record: VolumeRecord) -> dict[str, Any]:
    try:
        size = (await request.services.volumes.usage(record.ref)).used
    except IsolaError:
        size = -1
    users_of = request.services.volumes.used_by(record.ref)
    return {**volume_json(request, record), "UsageData": {"Size": size, "RefCount": len(users_of)}}


ROUTES = (("GET", "/system/df", get, Permission.VIEW),)
