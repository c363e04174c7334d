"""The route table of the door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from isola.access import Permission as Permission  # noqa: PLC0414 - every table of routes takes it from here
from isola.doors.http import routing
from isola.doors.rest.not_offered import MethodNotAllowed, not_offered
from isola.errors import IsolaError, NotFound, Unsupported

if TYPE_CHECKING:
    from aiohttp import web

    from isola.doors.rest.request import Request


Handler = Callable[["Request"], Awaitable["web.StreamResponse"]]
Route = tuple[str, str, Handler, Permission]
"""Method, path, handler, permission. ``{name}`` in a path is one component, ``{name...}`` all that follow."""


_METHODS = ("GET", "PUT", "PATCH", "POST", "DELETE")


class Router(routing.Router[Handler]):
    """Finds routes; what is not there is answered as LXD answers it."""

    def unknown(self, path: str) -> IsolaError:
        """404, or 501 for parts of the API that are not offered."""
        remedy = "GET /1.0 lists what this server offers"
        return not_offered(path) or NotFound(f"There is nothing at {path[:200]}", remedy=remedy)

    def not_offered(self, method: str, path: str, offered: Iterable[str]) -> IsolaError:
        """501, as in LXD, for a method that the API has but this server does not; 405 for unknown methods."""
        use = f"offered here: {', '.join(sorted(offered))}"
        if method in _METHODS:
            return Unsupported(f"{method} of {path[:200]} is not offered", remedy=use)
        return MethodNotAllowed(f"Method {method[:20]} is not known", remedy=use)


def in_every_tree(*routes: Route) -> tuple[Route, ...]:
    """The same routes under ``/1.0/instances`` and under LXD's older names for it."""
    return tuple(
        (method, path.replace("/1.0/instances", f"/1.0/{tree}", 1), handler, permission)
        for tree in ("instances", "containers", "virtual-machines")
        for method, path, handler, permission in routes
    )


def all_routes() -> list[Route]:
    """The tables of every file in ``routes/``."""
    return routing.tables("isola.doors.rest.routes")
