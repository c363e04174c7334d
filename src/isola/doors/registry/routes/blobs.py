"""Blobs."""

from __future__ import annotations

from aiohttp import web

from isola.doors.registry.answers import empty
from isola.doors.registry.request import Request
from isola.doors.registry.routing import Permission
from isola.doors.registry.sending import send_blob


async def get(request: Request) -> web.StreamResponse:
    """The content, or a range of it."""
    views = request.repositories.views
    blob = await views.blob(request.repository, request.parameters["digest"], public=request.public)
    if request.http.method == "HEAD":
        request.repositories.note_found(request.repository, blob.digest)
    return await send_blob(request, blob)


async def delete(request: Request) -> web.StreamResponse:
    """Remove it from the repository, unless a manifest refers to it."""
    digest = request.parameters["digest"]
    repository = request.repositories.views.home_of_blob(request.repository, digest)
    await request.repositories.remove_blob(repository, digest)
    return empty(202)


_PATH = "/v2/{repository...}/blobs/{digest}"
ROUTES = (
    ("GET", _PATH, get, Permission.VIEW),
    ("DELETE", _PATH, delete, Permission.EDIT),
)
