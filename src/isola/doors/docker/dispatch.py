"""Dispatches requests to handlers, and turns their results and errors into responses of the API."""

from __future__ import annotations

import asyncio
import logging
from functools import cached_property
from typing import TYPE_CHECKING

from aiohttp import web

from isola.access import Permission, refusal, refusal_of_shared
from isola.doors import Services
from isola.doors.docker import versions
from isola.doors.docker.answers import failure
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Router, all_routes, needed
from isola.doors.http.body import parse_pairs, readable
from isola.doors.http.refusals import Refusals
from isola.errors import Forbidden, InvalidInput, IsolaError, NotFound
from isola.host.exhaustion import spent
from isola.host.outside import limit_to_outside
from isola.model.caller import Caller
from isola.model.reference import DEFAULT_PROJECT, Kind

if TYPE_CHECKING:
    from isola.doors.docker.buildkit.http2 import Link
    from isola.doors.docker.buildkit.records import Records
    from isola.doors.docker.buildkit.sessions import Sessions
    from isola.doors.docker.containers.lines import KeptLines
    from isola.doors.docker.events.history import History

log = logging.getLogger(__name__)
_CALLS = 512
"""At the same time on one direct connection: a client that builds many targets holds four for each."""
_SHARED = {
    "images": Kind.IMAGE,
    "build": Kind.IMAGE,
    "grpc": Kind.IMAGE,
    "networks": Kind.NETWORK,
    "volumes": Kind.STORAGE_VOLUME,
}
"""Kinds that a project may share with the default project, by the first part of their paths."""


class Dispatcher:
    """Answers every request; errors are JSON and reveal no internals."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._lasting: set[asyncio.Task[object]] = set()
        self._refusals = Refusals(services.host.clock)
        self._history: History | None = None

    @cached_property
    def _router(self) -> Router:
        """Loaded at the first request: a daemon without clients of this door does not need its modules."""
        return Router(all_routes())

    @cached_property
    def _sessions(self) -> Sessions:
        from isola.doors.docker.buildkit.sessions import Sessions

        return Sessions()

    @cached_property
    def _records(self) -> Records:
        from isola.doors.docker.buildkit.records import Records

        return Records()

    @cached_property
    def _lines(self) -> KeptLines:
        from isola.doors.docker.containers.lines import KeptLines

        return KeptLines()

    @property
    def project(self) -> str:
        """The project whose instances are the containers."""
        return self.services.server.config.get("docker.project") or DEFAULT_PROJECT

    def _history_of(self, project: str) -> History:
        """Another one after the setting has changed."""
        from isola.doors.docker.events.history import History

        if self._history is not None and self._history.project != project:
            self._history.close()
            self._history = None
        if self._history is None:
            self._history = History(self.services, project)
        return self._history

    async def answer(self, http: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Raises nothing but CancelledError and ConnectionError."""
        limit_to_outside(not caller.admin)
        try:
            path, _, query = readable(http.raw_path, "path").partition("?")
            version, path = versions.split(path)
            handler, permission, parameters = self._router.find(http.method, path)
            self._require_allowed(caller, permission, path)
            request = Request(
                self.services,
                http,
                caller,
                self.project,
                self._lasting,
                self._history_of(self.project),
                self._sessions,
                self._records,
                self._lines,
                version,
                parameters,
                parse_pairs(query),
            )
            self._require_allowed(caller, needed(handler, permission, request.query), path)
            return await handler(request)
        except IsolaError as error:
            if isinstance(error, Forbidden):
                self._refusals.note(caller, http.method, http.raw_path, error.message)
            return failure(error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except web.HTTPException as error:  # aiohttp's own error for a malformed upgrade
            return failure(InvalidInput("The request is malformed", evidence=error.text or ""))
        except Exception as error:
            return failure(exhausted) if (exhausted := spent(error)) else self._unexpected(http)

    async def converse(self, link: Link, caller: Caller) -> None:
        """A client that speaks BuildKit's protocol from the first byte on, until either side closes."""
        from isola.doors.docker.buildkit.client import Direct
        from isola.doors.docker.buildkit.control import Control
        from isola.doors.docker.buildkit.http2 import Connection

        limit_to_outside(not caller.admin)
        project, refused = self.project, None
        try:
            self._require_allowed(caller, Permission.EDIT, "/grpc")
        except IsolaError as error:
            refused = error
        client = Direct(self.services, caller, project, self._history_of(project), self._sessions, self._records)
        task = asyncio.current_task()
        assert task is not None
        self._lasting.add(task)
        control = Control(client, refused)
        try:
            await Connection(link, control.serve, streams=_CALLS).run()
        finally:
            self._lasting.discard(task)
            await control.close()

    def _require_allowed(self, caller: Caller, permission: Permission, path: str) -> None:
        """Raise Forbidden; and NotFound for a project without a record, but to callers who may know which exist."""
        project = self.project
        if reason := refusal(caller, permission, project):
            raise Forbidden(reason)
        if permission.in_project and self.services.projects.find(project) is None:
            raise NotFound(f"Project {project[:80]!r} of the setting docker.project not found")
        kind = _SHARED.get(path.strip("/").partition("/")[0]) if permission.changes else None
        home = self.services.projects.home(project, kind) if kind is not None else project
        if reason := refusal_of_shared(caller, project, home):
            raise Forbidden(reason)

    def malformed(self, status: int, message: str) -> web.Response:
        """A request that is not HTTP, or a failure below the handlers."""
        if status < 500:
            return failure(InvalidInput("The request is not HTTP", evidence=message))
        return failure(IsolaError("Internal error below the handlers"))

    def claims(self, path: str) -> bool:
        """Paths with a version, and those of this API without one."""
        return versions.claims(path)

    async def close(self) -> None:
        """End all streams."""
        if self._history is not None:
            self._history.close()
        tasks = list(self._lasting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _unexpected(self, http: web.BaseRequest) -> web.Response:
        number = self.services.host.clock.token(4)
        log.exception("Internal error %s: %s %s", number, http.method, http.raw_path[:500])
        return failure(
            IsolaError(
                f"Internal error, id {number}", remedy="look for this id in the daemon's log, and please report it"
            )
        )
