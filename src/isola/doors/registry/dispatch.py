"""Dispatches requests to handlers: who asks, for which repository, and whether they may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from aiohttp import web

from isola.access import Permission
from isola.access.bearer import PULL, PUSH, permitted
from isola.doors import Services
from isola.doors.http.body import parse_pairs, readable
from isola.doors.http.refusals import Refusals
from isola.doors.registry.answers import Unauthorized, failure
from isola.doors.registry.logins import CATALOGUE, Access, Logins, scope_of
from isola.doors.registry.request import Pairs, Request
from isola.doors.registry.routing import Router, action_of, all_routes
from isola.errors import Forbidden, InvalidInput, IsolaError, NotFound
from isola.host.exhaustion import spent
from isola.model.caller import Caller
from isola.model.reference import Ref
from isola.model.repository import repository_at

log = logging.getLogger(__name__)
_ROOT = "/v2"
_LISTING = {"/v2/_catalog": [CATALOGUE]}
_CODES = {"manifests": "MANIFEST_INVALID", "blobs": "BLOB_UPLOAD_INVALID"}
"""Codes of invalid requests, by a part of their paths."""


class Dispatcher:
    """Answers every request below ``/v2/``."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._router = Router(all_routes())
        self._logins = Logins(services)
        self._refusals = Refusals(services.host.clock)

    async def answer(self, http: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Raises nothing but CancelledError and ConnectionError."""
        scopes: list[str] = []
        default = "UNSUPPORTED"
        try:
            path, _, query = readable(http.raw_path, "path").partition("?")
            default = next((code for part, code in _CODES.items() if f"/{part}/" in path), default)
            handler, permission, parameters = self._router.find(http.method, path)
            pairs = parse_pairs(query)
            repository = self._repository(parameters)
            action = action_of(http.method, permission, parameters)
            scopes += _scopes(repository, action, dict(pairs)) if repository is not None else _LISTING.get(path, ())
            access = await self._logins.access(http, caller)
            try:
                self._require(access, permission, repository, action, pairs)
                request = Request(self.services, http, access, self._logins, parameters=parameters, pairs=pairs)
                if repository is not None:
                    request.repository, request.path = self._logins.home(repository), parameters["repository"]
                return await handler(request)
            except NotFound:
                if access.public and permission.in_project:  # it may be there after a login
                    raise Unauthorized("authentication required", field="login") from None
                raise
        except Unauthorized as error:
            wrong = {"login": "", "token": "invalid_token", "scope": "insufficient_scope"}.get(error.field or "", "")
            return failure(error, default, self._logins.challenge(http, scopes, wrong))
        except IsolaError as error:
            if isinstance(error, Forbidden):
                self._refusals.note(caller, http.method, http.raw_path, error.message)
            return failure(error, default)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            return failure(exhausted, default) if (exhausted := spent(error)) else self._unexpected(http)

    def malformed(self, status: int, message: str) -> web.Response:
        """A request that is not HTTP, or a failure below the handlers."""
        if status < 500:
            return failure(InvalidInput("The request is not HTTP", evidence=message), "UNSUPPORTED")
        return failure(IsolaError("Internal error below the handlers"), "UNKNOWN")

    def claims(self, path: str) -> bool:
        """All paths below ``/v2``."""
        return path == _ROOT or path.startswith(f"{_ROOT}/")

    async def close(self) -> None:
        """Nothing lasts here."""

    def _repository(self, parameters: Mapping[str, str]) -> Ref | None:
        return repository_at(parameters["repository"]) if "repository" in parameters else None

    def _require(
        self, access: Access, permission: Permission, repository: Ref | None, action: str, pairs: Pairs
    ) -> None:
        """Raises Unauthorized (log in, or show a token for this), Forbidden, NotFound (the project)."""
        if permission is Permission.GUEST:
            return
        if not access.caller.trusted:
            if not access.public or (repository is not None and action != PULL):
                raise Unauthorized("authentication required", field="login")
            return
        if repository is None:
            return
        home = self._logins.home(repository)
        if action not in permitted(access.caller, repository.project):
            raise Forbidden("requested access to the resource is denied")
        if action != PULL and action not in permitted(access.caller, home.project):
            raise Forbidden("requested access to the resource is denied", evidence="the project shares its images")
        if self.services.projects.find(repository.project) is None:
            raise NotFound(f"Project {repository.project[:80]!r} not found", field="repository")
        if access.bearer is not None and not _covered(access, repository, action, dict(pairs)):
            raise Unauthorized("authentication required", field="scope")

    def _unexpected(self, http: web.BaseRequest) -> web.Response:
        number = self.services.host.clock.token(4)
        log.exception("Internal error %s: %s %s", number, http.method, http.raw_path[:500])
        return failure(IsolaError(f"Internal error, id {number}"), "UNKNOWN")


def _scopes(repository: Ref, action: str, query: Mapping[str, str]) -> list[str]:
    """What a token must be for; a mount reads another repository too."""
    if not action:
        return []
    source = _source(action, query)
    return [scope_of(repository, action), *([scope_of(source, PULL)] if source is not None else [])]


def _covered(access: Access, repository: Ref, action: str, query: Mapping[str, str]) -> bool:
    source = _source(action, query)
    if source is not None and PULL in permitted(access.caller, source.project) and not access.may(source, PULL):
        return False
    return access.may(repository, action)


def _source(action: str, query: Mapping[str, str]) -> Ref | None:
    if action != PUSH or "mount" not in query or not query.get("from"):
        return None
    try:
        return repository_at(query["from"])
    except InvalidInput:
        return None
