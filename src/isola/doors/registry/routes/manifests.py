"""Manifests, by tag or digest."""

from __future__ import annotations

from aiohttp import web

from isola.doors.registry.answers import VERSION, empty
from isola.doors.registry.request import Request
from isola.doors.registry.routing import Permission
from isola.images.hostile_json import MAX_DOCUMENT

_UNSPECIFIC = frozenset({"", "application/octet-stream", "application/json", "text/plain"})


async def get(request: Request) -> web.StreamResponse:
    """The manifest as it was pushed."""
    views, reference = request.repositories.views, request.parameters["reference"]
    found = await views.manifest(request.repository, reference, _accepted(request), public=request.public)
    tag = f'"{found.digest}"'
    headers = {**VERSION, "Docker-Content-Digest": found.digest, "ETag": tag}
    if request.http.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.data, headers={**headers, "Content-Type": found.media_type})


async def put(request: Request) -> web.StreamResponse:
    """Store it, under its digest and its tags."""
    media_type = request.http.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    data = await request.body(MAX_DOCUMENT)
    pushed = await request.repositories.push(
        request.repository,
        request.parameters["reference"],
        data,
        "" if media_type in _UNSPECIFIC else media_type,
        request.values("tag"),
        caller=request.access.caller,
    )
    headers = {
        "Location": f"/v2/{request.path}/manifests/{pushed.digest}",
        "Docker-Content-Digest": pushed.digest,
    }
    if pushed.subject:
        headers["OCI-Subject"] = pushed.subject
    if tags := [name for name in pushed.tags if name in request.values("tag")]:
        headers["OCI-Tag"] = ", ".join(tags)
    return empty(201, headers)


async def delete(request: Request) -> web.StreamResponse:
    """Remove a tag, or a manifest with all its tags."""
    reference = request.parameters["reference"]
    repository = request.repositories.views.home_of(request.repository, reference)
    if ":" in reference:
        await request.repositories.remove_manifest(repository, reference, caller=request.access.caller)
    else:
        await request.repositories.remove_tag(repository, reference, caller=request.access.caller)
    return empty(202)


def _accepted(request: Request) -> frozenset[str]:
    """Media types in the ``Accept`` headers; empty if the client takes anything."""
    given = [part for line in request.http.headers.getall("Accept", []) for part in line.split(",")]
    found = frozenset(part.partition(";")[0].strip().lower() for part in given)
    return frozenset() if "*/*" in found else found


_PATH = "/v2/{repository...}/manifests/{reference}"
ROUTES = (
    ("GET", _PATH, get, Permission.VIEW),
    ("PUT", _PATH, put, Permission.EDIT),
    ("DELETE", _PATH, delete, Permission.EDIT),
)
