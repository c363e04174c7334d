"""The route table of the door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from isola.access import Permission as Permission  # noqa: PLC0414 - every table of routes takes it from here
from isola.access.bearer import DELETE, PULL, PUSH
from isola.doors.http import routing
from isola.doors.registry.answers import MethodNotAllowed
from isola.errors import IsolaError, NotFound

if TYPE_CHECKING:
    from aiohttp import web

    from isola.doors.registry.request import Request


Handler = Callable[["Request"], Awaitable["web.StreamResponse"]]
Route = tuple[str, str, Handler, Permission]
"""Method, path, handler, permission. ``{repository...}`` is a name with slashes."""


class Router(routing.Router[Handler]):
    """Finds routes."""

    def unknown(self, path: str) -> IsolaError:
        return NotFound(f"There is nothing at {path[:200]}", field="repository")

    def not_offered(self, method: str, path: str, offered: Iterable[str]) -> IsolaError:
        return MethodNotAllowed.of(", ".join(sorted(offered)))


def all_routes() -> list[Route]:
    """The tables of every file in ``routes/``."""
    return routing.tables("isola.doors.registry.routes")


def action_of(method: str, permission: Permission, parameters: routing.Parameters) -> str:
    """What a request does with its repository, in the words of scopes; empty for one without a repository."""
    if not permission.in_project:
        return ""
    if permission is Permission.VIEW:
        return PULL
    return DELETE if method == "DELETE" and "upload" not in parameters else PUSH
