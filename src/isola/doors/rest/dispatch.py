"""Dispatches HTTP requests to handlers, and turns their results and errors into responses of the API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from aiohttp import web

from isola.access import Permission, refusal, refusal_of_shared
from isola.doors import Services
from isola.doors.http.body import readable
from isola.doors.http.refusals import Refusals
from isola.doors.rest.acting import at_its_end, wait_seconds
from isola.doors.rest.answers import failure
from isola.doors.rest.channels import close_socket
from isola.doors.rest.connections import no_connections
from isola.doors.rest.rendering import Rendering
from isola.doors.rest.request import Request, parse_query
from isola.doors.rest.routing import Router, all_routes
from isola.errors import Forbidden, InvalidInput, IsolaError, NotFound
from isola.host.exhaustion import spent
from isola.host.outside import limit_to_outside
from isola.model.caller import Caller
from isola.model.reference import DEFAULT_PROJECT, Kind

log = logging.getLogger(__name__)
_SERVER = "/1.0"
_SHARED = {
    "images": Kind.IMAGE,
    "networks": Kind.NETWORK,
    "profiles": Kind.PROFILE,
    "storage-pools": Kind.STORAGE_VOLUME,
}
"""Kinds that a project may share with the default project, by the first part of their paths."""


class Dispatcher:
    """Answers every request; errors are JSON and reveal no internals."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._router = Router(all_routes())
        self.rendering = Rendering(services)
        self._sockets: set[web.WebSocketResponse] = set()
        self._connections = no_connections()
        self._refusals = Refusals(services.host.clock)

    async def answer(self, http: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Raises nothing but CancelledError and ConnectionError."""
        limit_to_outside(not caller.admin)
        try:
            path, _, query = readable(http.raw_path, "path").partition("?")
            if http.method == "OPTIONS":  # a browser's preflight request; as in LXD the same for every path
                return web.Response()
            handler, permission, parameters = self._router.find(http.method, path)
            _require_trusted(caller, permission)
            query_values = parse_query(query)
            if not _lists_everywhere(http.method, permission, parameters, query_values):
                _require_project(caller, permission, parameters, query_values)
            if path.rstrip("/") != _SERVER:  # clients ask it for what is there before they create the project
                self._require_known(caller, query_values)
            self._require_own(caller, permission, path, query_values)
            request = Request(
                self.services, http, caller, self.rendering, self._sockets, self._connections, parameters, query_values
            )
            seconds = wait_seconds(query_values)
            response = await handler(request)
            return await at_its_end(request, response, seconds) if seconds else response
        except IsolaError as error:
            if isinstance(error, Forbidden):
                self._refusals.note(caller, http.method, http.raw_path, error.message)
            return failure(error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except web.HTTPException as error:  # aiohttp's own error for a malformed upgrade
            return failure(InvalidInput("The request is malformed", evidence=error.text or "", field="request"))
        except Exception as error:
            return failure(exhausted) if (exhausted := spent(error)) else self._unexpected(http)

    def _require_known(self, caller: Caller, query: Mapping[str, str]) -> None:
        """Raise NotFound for an unknown project, but to trusted callers only: others must not learn which exist."""
        name = query.get("project")
        if name and caller.trusted and self.services.projects.find(name) is None:
            raise NotFound(
                f"Project {name[:80]!r} not found", field="project", remedy="list the projects for their names"
            )

    def _require_own(self, caller: Caller, permission: Permission, path: str, query: Mapping[str, str]) -> None:
        """A project without its own images, networks, ... uses those of the default project."""
        kind = _SHARED.get(path.strip("/").split("/")[1]) if permission.changes else None
        if kind is not None:
            project = query.get("project") or DEFAULT_PROJECT
            if reason := refusal_of_shared(caller, project, self.services.projects.home(project, kind)):
                raise Forbidden(reason)

    def malformed(self, status: int, message: str) -> web.Response:
        """A request that is not HTTP, or a failure below the handlers."""
        if status < 500:
            return failure(InvalidInput("The request is not HTTP", evidence=message, field="request"))
        return failure(IsolaError("Internal error below the handlers"))

    def claims(self, path: str) -> bool:
        """``/`` and everything below ``/1.0``."""
        return path in ("/", _SERVER) or path.startswith(f"{_SERVER}/")

    async def close(self) -> None:
        """Close all open WebSockets."""
        await asyncio.gather(*(close_socket(socket) for socket in list(self._sockets)))

    def _unexpected(self, http: web.BaseRequest) -> web.Response:
        number = self.services.host.clock.token(4)
        log.exception("Internal error %s: %s %s", number, http.method, http.raw_path[:500])
        return failure(
            IsolaError(
                f"Internal error, id {number}", remedy="look for this id in the daemon's log, and please report it"
            )
        )


def _lists_everywhere(
    method: str, permission: Permission, parameters: Mapping[str, str], query: Mapping[str, str]
) -> bool:
    """Whether a list over all projects is requested; ``Request.lists`` then leaves out those the caller may not use."""
    query_values = query.get("all-projects", "").lower() in ("1", "true", "yes", "on")
    return query_values and method in ("GET", "HEAD") and permission is Permission.VIEW and not parameters


def _require_trusted(caller: Caller, permission: Permission) -> None:
    """Checked before anything else of the request, so that an untrusted caller learns nothing from the response."""
    if permission is not Permission.GUEST and not caller.trusted:
        raise Forbidden(refusal(caller, permission, ""))


def _require_project(
    caller: Caller, permission: Permission, parameters: Mapping[str, str], query: Mapping[str, str]
) -> None:
    """Check access to the project of the path (``/1.0/projects/blue``), else of the query."""
    project = parameters.get("project") or query.get("project") or DEFAULT_PROJECT
    if reason := refusal(caller, permission, project):
        raise Forbidden(reason)
