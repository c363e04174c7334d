"""Referrers: manifests that are attached to another one."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from isola.doors.registry.answers import answer
from isola.doors.registry.request import Request
from isola.doors.registry.routing import Permission
from isola.images.descriptor import INDEX_TYPE


async def get(request: Request) -> web.StreamResponse:
    """An index of them, in pages; without entries for an unknown digest."""
    digest, kind = request.parameters["digest"], request.query.get("artifactType", "")
    found = await request.repositories.views.referrers(
        request.repository, digest, kind, request.query.get("last", ""), public=request.public
    )
    more = {}
    if kind:
        more["OCI-Filters-Applied"] = "artifactType"
    if found.last:
        query = {"last": found.last} | ({"artifactType": kind} if kind else {})
        more["Link"] = f'</v2/{request.path}/referrers/{digest}?{urlencode(query)}>; rel="next"'
    entries = [each.document() for each in found.manifests]
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
    return answer(index, more, media_type=INDEX_TYPE)


ROUTES = (("GET", "/v2/{repository...}/referrers/{digest}", get, Permission.VIEW),)
