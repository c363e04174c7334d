"""The version of the API, and the list of all repositories."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from isola.doors.registry.answers import Unauthorized, answer
from isola.doors.registry.request import Request
from isola.doors.registry.routing import Permission
from isola.model.repository import path_of

_PAGE = 1000


async def check(request: Request) -> web.StreamResponse:
    """Whether the client is logged in. Clients that can log in do so when they are asked here."""
    if request.public and request.access.bearer is None:
        raise Unauthorized("authentication required", field="login")
    return answer({})


async def catalogue(request: Request) -> web.StreamResponse:
    """The repositories that the caller may pull from, in pages."""
    bearer = request.access.bearer
    if bearer is not None and not (bearer.lists or request.public):
        raise Unauthorized("authentication required", field="scope")
    size, last = request.page(_PAGE)
    found = request.repositories.views.repositories(public=request.public)
    shown = (path_of(each) for each in found if request.public or request.access.caller.may_use(each.project))
    names = sorted(path for path in shown if path > last)
    page = names[:size]
    more = {}
    if page and len(names) > size:
        more["Link"] = f'</v2/_catalog?{urlencode({"last": page[-1], "n": size})}>; rel="next"'
    return answer({"repositories": page}, more)


ROUTES = (
    ("GET", "/v2", check, Permission.TRUSTED),
    ("GET", "/v2/_catalog", catalogue, Permission.TRUSTED),
)
