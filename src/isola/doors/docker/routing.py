"""The route table of the door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
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


class Router(routing.Router[Handler]):
    """Finds routes; Docker does not tell unknown methods from unknown paths."""

    def unknown(self, path: str) -> IsolaError:
        return NotFound("page not found")

    def not_offered(self, method: str, path: str, offered: Iterable[str]) -> IsolaError:
        return NotFound("page not found")


def all_routes() -> list[Route]:
    """The tables of every file in ``routes/``."""
    return routing.tables("isola.doors.docker.routes")
