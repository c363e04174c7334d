"""The route table of the door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from isola.access import Permission as Permission  # noqa: PLC0414 - every table of routes takes it from here
from isola.doors.http import routing
from isola.errors import IsolaError, NotFound

if TYPE_CHECKING:
    from aiohttp import web

    from isola.doors.docker.request import Request


Handler = Callable[["Request"], Awaitable["web.StreamResponse"]]
Route = tuple[str, str, Handler, Permission]
"""Method, path without a version, handler, permission. ``{name...}`` in a path is a name that may contain slashes."""

_BY_QUERY: dict[Handler, tuple[str, Permission]] = {}


def needs_with(parameter: str, permission: Permission) -> Callable[[Handler], Handler]:
    """Of a handler: requests with this query parameter need another permission than that of the route."""

    def noted(handler: Handler) -> Handler:
        _BY_QUERY[handler] = (parameter, permission)
        return handler

    return noted


def needed(handler: Handler, permission: Permission, query: Mapping[str, str]) -> Permission:
    """What a request needs whose route has this handler and permission."""
    parameter, further = _BY_QUERY.get(handler, ("", permission))
    return further if query.get(parameter) else permission


def needs_in_words(handler: Handler, permission: Permission) -> str:
    """For the page of the door."""
    word = permission.name.lower()
    if handler not in _BY_QUERY:
        return word
    parameter, further = _BY_QUERY[handler]
    return f"{word}; {further.name.lower()} with `{parameter}`"


class Router(routing.Router[Handler]):
    """Finds routes; Docker does not tell unknown methods from unknown paths."""

    def unknown(self, path: str) -> IsolaError:
        return NotFound("page not found")

    def not_offered(self, method: str, path: str, offered: Iterable[str]) -> IsolaError:
        return NotFound("page not found")


def all_routes() -> list[Route]:
    """The tables of every file in ``routes/``."""
    return routing.tables("isola.doors.docker.routes")
