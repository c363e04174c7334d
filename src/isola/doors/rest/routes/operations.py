"""Operations."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.answers import sync
from isola.doors.rest.channels import is_upgrade, serve_channel
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.operations import operation_json
from isola.errors import Forbidden, InvalidInput
from isola.operations import Operation


async def list_all(request: Request) -> web.StreamResponse:
    """A map by status, of paths or of operations."""
    whole = request.recursion > 0
    groups: dict[str, list[object]] = {}
    for operation in request.services.operations:
        shown: object = operation_json(operation) if whole else f"/1.0/operations/{operation.id}"
        groups.setdefault(operation.status.value.lower(), []).append(shown)
    return sync(groups)


async def get(request: Request) -> web.StreamResponse:
    """One operation."""
    return _shown(request, _find(request))


async def cancel(request: Request) -> web.StreamResponse:
    """Ask it to stop and undo what it did."""
    _find(request).cancel()
    return sync()


async def wait(request: Request) -> web.StreamResponse:
    """The operation once it has ended, or as it is when the time is over."""
    operation = _known(request)
    await operation.wait(_seconds(request))
    return _shown(request, operation)


async def websocket(request: Request) -> web.StreamResponse:
    """Connect one of its channels."""
    operation = _known(request)
    if not is_upgrade(request):
        raise InvalidInput("A WebSocket is expected", field="Upgrade", remedy="send the upgrade headers")
    return await serve_channel(request, operation, request.query.get("secret", ""))


def _shown(request: Request, operation: Operation) -> web.StreamResponse:
    if operation.status.final:
        request.services.operations.told(operation)
    return sync(operation_json(operation))


def _find(request: Request) -> Operation:
    return request.services.operations.get(request.parameters["id"])


def _known(request: Request) -> Operation:
    """For trusted callers, and for those who know one of its secrets."""
    operation = _find(request)
    channels = request.connections.get(operation)
    known = channels.secrets.values() if channels is not None else ()
    secrets = {*known, operation.metadata.get("secret")} - {None}
    if not request.caller.trusted and request.query.get("secret") not in secrets:
        raise Forbidden("Only trusted callers may do this")
    return operation


def _seconds(request: Request) -> float | None:
    text = request.query.get("timeout", "") or "-1"
    try:
        seconds = int(text[:10])
    except ValueError:
        raise InvalidInput("timeout must be a number of seconds", field="timeout") from None
    return None if seconds < 0 else float(seconds)


ROUTES = (
    ("GET", "/1.0/operations", list_all, Permission.VIEW),
    ("GET", "/1.0/operations/{id}", get, Permission.VIEW),
    ("DELETE", "/1.0/operations/{id}", cancel, Permission.OPERATE),
    ("GET", "/1.0/operations/{id}/wait", wait, Permission.GUEST),
    ("GET", "/1.0/operations/{id}/websocket", websocket, Permission.GUEST),
)
