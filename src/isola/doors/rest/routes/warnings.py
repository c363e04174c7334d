"""Warnings."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.answers import sync
from isola.doors.rest.filtering import select
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.warnings import warning_json, writable
from isola.errors import NotFound
from isola.model.warning import WarningRecord

_ROOT = "/1.0/warnings"


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or warnings: of one project if ``project`` is given, else all that the caller may see."""
    project = request.query.get("project", "")
    found = [each for each in request.services.warnings if _may_see(request, each)]
    shapes = [warning_json(each) for each in found]
    shapes = [each for each in shapes if not project or each["project"] == project]
    shapes = select(shapes, request.query.get("filter", ""))
    return sync(shapes if request.recursion else [f"{_ROOT}/{shape['uuid']}" for shape in shapes])


async def get(request: Request) -> web.StreamResponse:
    """One warning."""
    found = _find(request)
    return sync(warning_json(found), etag=writable(found))


async def put(request: Request) -> web.StreamResponse:
    """Set its status: ``acknowledged`` or ``new``."""
    status = (await request.fields()).text("status")
    allow = request.matching(writable, lambda found: found)
    await request.services.warnings.mark(_find(request).id, status, allow=allow, caller=request.caller)
    return sync()


async def delete(request: Request) -> web.StreamResponse:
    """Delete a warning; it is created again when it recurs."""
    await request.services.warnings.delete(_find(request).id, caller=request.caller)
    return sync()


def _find(request: Request) -> WarningRecord:
    """Raises NotFound also for one that the caller may not see."""
    found = request.services.warnings.get(request.parameters["id"])
    if not _may_see(request, found):
        raise NotFound(f"Warning {found.id!r} not found")
    return found


def _may_see(request: Request, warning: WarningRecord) -> bool:
    """Warnings without a project are visible to administrators only."""
    return request.caller.admin if warning.of_server else request.caller.may_use(warning.project)


ROUTES = (
    ("GET", _ROOT, list_all, Permission.TRUSTED),
    ("GET", _ROOT + "/{id}", get, Permission.TRUSTED),
    ("PUT", _ROOT + "/{id}", put, Permission.ADMIN),
    ("PATCH", _ROOT + "/{id}", put, Permission.ADMIN),
    ("DELETE", _ROOT + "/{id}", delete, Permission.ADMIN),
)
