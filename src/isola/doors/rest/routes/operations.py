"""Operations."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from isola.doors.rest.answers import sync
from isola.doors.rest.channels import is_upgrade, serve_channel
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.operations import operation_json
from isola.errors import Forbidden, InvalidInput, NotFound
from isola.model.reference import OF_SERVER
from isola.operations import Operation


async def list_all(request: Request) -> web.StreamResponse:
    """A map by status, of paths or of operations."""
    whole = request.recursion > 0
    groups: dict[str, list[object]] = {}
    for operation in _visible(request):
        shown: object = operation_json(operation.view()) if whole else f"/1.0/operations/{operation.id}"
        groups.setdefault(operation.status.value.lower(), []).append(shown)
    return sync(groups)


async def get(request: Request) -> web.StreamResponse:
    """One operation."""
    return _shown(request, _find(request))


async def cancel(request: Request) -> web.StreamResponse:
    """Cancel an operation; its changes are rolled back."""
    _find(request).cancel()
    return sync()


async def wait(request: Request) -> web.StreamResponse:
    """The operation after its end, or its state at the timeout."""
    operation = _known(request)
    await operation.wait(_seconds(request))
    return _shown(request, operation)


async def websocket(request: Request) -> web.StreamResponse:
    """Connect to a channel of an operation."""
    operation = _known(request)
    if not is_upgrade(request):
        raise InvalidInput("A WebSocket is expected", field="Upgrade", remedy="send the upgrade headers")
    return await serve_channel(request, operation, request.query.get("secret", ""))


def _shown(request: Request, operation: Operation) -> web.StreamResponse:
    if operation.status.final:
        request.services.operations.mark_read(operation)
    return sync(operation_json(operation.view()))


def _visible(request: Request) -> Iterator[Operation]:
    mine = (each for each in request.services.operations if request.caller.may_use(each.project))
    return mine if request.everywhere else (each for each in mine if each.project in (OF_SERVER, request.project))


def _find(request: Request) -> Operation:
    """An operation in a project that the caller may use. Raises NotFound, also for those of other projects."""
    operation = request.services.operations.get(request.parameters["id"])
    if not request.caller.may_use(operation.project):
        raise NotFound(f"Operation {operation.id!r} not found", remedy="operations are dropped a while after their end")
    return operation


def _known(request: Request) -> Operation:
    """An operation that the caller may see, or knows a secret of. Raises Forbidden, NotFound."""
    operation = request.services.operations.find(request.parameters["id"])
    secret = request.query.get("secret", "")
    if operation is not None and secret and secret in _secrets(request, operation):
        return operation
    if not request.caller.trusted:
        raise Forbidden("Only trusted callers may do this")
    return _find(request)


def _secrets(request: Request, operation: Operation) -> set[object]:
    channels = request.connections.get(operation)
    return {*(channels.secrets.values() if channels is not None else ()), operation.metadata.get("secret")}


def _seconds(request: Request) -> float | None:
    text = request.query.get("timeout", "") or "-1"
    try:
        seconds = int(text[:10])
    except ValueError:
        raise InvalidInput("timeout must be a number of seconds", field="timeout") from None
    return None if seconds < 0 else float(seconds)


ROUTES = (
    ("GET", "/1.0/operations", list_all, Permission.TRUSTED),
    ("GET", "/1.0/operations/{id}", get, Permission.TRUSTED),
    ("DELETE", "/1.0/operations/{id}", cancel, Permission.TRUSTED),
    ("GET", "/1.0/operations/{id}/wait", wait, Permission.GUEST),
    ("GET", "/1.0/operations/{id}/websocket", websocket, Permission.GUEST),
)
