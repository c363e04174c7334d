"""Tags of a repository."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from isola.doors.registry.answers import answer
from isola.doors.registry.request import Request
from isola.doors.registry.routing import Permission
from isola.images.repositories.views import tag_order

_PAGE = 10_000


async def get(request: Request) -> web.StreamResponse:
    """All tags, sorted, in pages."""
    size, last = request.page(_PAGE)
    found = request.repositories.views.tags(request.repository, public=request.public)
    tags = [tag for tag in found if tag_order(tag) > tag_order(last)]
    page = tags[:size]
    more = {}
    if page and len(tags) > size:
        more["Link"] = f'</v2/{request.path}/tags/list?{urlencode({"last": page[-1], "n": size})}>; rel="next"'
    return answer({"name": request.path, "tags": page}, more)


ROUTES = (("GET", "/v2/{repository...}/tags/list", get, Permission.VIEW),)
