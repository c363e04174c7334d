"""Bearer tokens: clients that were asked to log in get them here."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import parse_qs

from aiohttp import web

from isola.doors.http.https import trust_connection
from isola.doors.registry.answers import Unauthorized, answer
from isola.doors.registry.request import Request
from isola.doors.registry.routing import Permission
from isola.errors import InvalidInput

_FORM = 64 << 10
_SECONDS = 10


async def get(request: Request) -> web.StreamResponse:
    """A token for the scopes that the caller has of those that it asks for."""
    if request.access.bearer is not None:
        raise Unauthorized("a bearer token cannot be exchanged for another one", field="login")
    given = request.logins.give(request.access, request.values("scope"))
    return answer(given, {"Cache-Control": "no-store"})


async def post(request: Request) -> web.StreamResponse:
    """The same in the form of OAuth 2.0, with name and secret in the body."""
    try:
        async with asyncio.timeout(_SECONDS):
            data = await request.body(_FORM)
    except TimeoutError:
        raise InvalidInput("The form did not arrive in time", field="body") from None
    try:
        form = {name: values[0] for name, values in parse_qs(data.decode(), max_num_fields=32).items()}
    except ValueError:
        raise InvalidInput("The form is malformed", field="body") from None
    if form.get("grant_type") != "password":
        raise InvalidInput("Only the grant type password is offered", field="grant_type")
    address = request.access.caller.address
    caller = await request.logins.log_in(form.get("username", ""), form.get("password", ""), address)
    trust_connection(request.http)
    given = request.logins.give(replace(request.access, caller=caller, public=False), [form.get("scope", "")])
    return answer(given, {"Cache-Control": "no-store"})


ROUTES = (
    ("GET", "/v2/token", get, Permission.GUEST),
    ("POST", "/v2/token", post, Permission.GUEST),
)
