"""Projects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from isola.doors.rest.addresses import address
from isola.doors.rest.answers import background, created, sync
from isola.doors.rest.filtering import select_records
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.projects import project_json, usage_json, writable
from isola.model.project import Project
from isola.projects.verbs import start_rename

_MOMENT = 0.5
"""Seconds."""


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or projects: those that the caller may use."""
    visible = [each for each in request.services.projects if request.caller.may_use(each.name)]
    found = select_records(visible, lambda project: _shape(request, project), request.query.get("filter", ""))
    return sync([shape if request.recursion else address(project.entity) for project, shape in found])


async def create(request: Request) -> web.StreamResponse:
    """Create a project, with its own default profile unless it shares profiles."""
    fields = await request.fields()
    project = Project(fields.text("name"), fields.text("description", ""), fields.mapping("config"))
    await request.services.projects.create(project, caller=request.caller)
    return created(address(project.entity))


async def get(request: Request) -> web.StreamResponse:
    """One project."""
    project = _find(request)
    return sync(_shape(request, project), etag=writable(project))


async def put(request: Request) -> web.StreamResponse:
    """Replace configuration and description; features that are not given are disabled."""
    fields = await request.fields()
    description, config = fields.text("description", ""), fields.mapping("config")
    return await _update(request, lambda project: replace(project, description=description, config=config))


async def patch(request: Request) -> web.StreamResponse:
    """Change some fields; an empty key is removed."""
    fields = await request.fields()
    changed = fields.mapping("config", empty=True)
    return await _update(
        request,
        lambda project: replace(
            project,
            description=fields.text("description", project.description),
            config={**project.config, **changed},
        ),
    )


async def rename(request: Request) -> web.StreamResponse:
    """Start renaming an empty project. The response is delayed a moment, because pylxd does not wait itself."""
    new, project = (await request.fields()).text("name"), _find(request)
    services = request.services
    operation = start_rename(services.projects, services.operations, project.name, new, caller=request.caller)
    await operation.wait(_MOMENT)
    return background(operation)


async def delete(request: Request) -> web.StreamResponse:
    """Delete an empty project."""
    await request.services.projects.delete(_find(request).name, caller=request.caller)
    return sync()


async def state(request: Request) -> web.StreamResponse:
    """Usage and limits of a project."""
    return sync(usage_json(request.services.projects.usage(_find(request).name)))


async def _update(request: Request, decide: Callable[[Project], Project]) -> web.StreamResponse:
    name, matching = _find(request).name, request.matching(writable, decide)
    await request.services.projects.update(name, matching, caller=request.caller)
    return sync()


def _find(request: Request) -> Project:
    return request.services.projects.get(request.parameters["project"])


def _shape(request: Request, project: Project) -> dict[str, object]:
    return project_json(project, request.users(request.services.projects.used_by(project.name)))


ROUTES = (
    ("GET", "/1.0/projects", list_all, Permission.TRUSTED),
    ("POST", "/1.0/projects", create, Permission.ADMIN),
    ("GET", "/1.0/projects/{project}", get, Permission.VIEW),
    ("GET", "/1.0/projects/{project}/state", state, Permission.VIEW),
    ("PUT", "/1.0/projects/{project}", put, Permission.ADMIN),
    ("PATCH", "/1.0/projects/{project}", patch, Permission.ADMIN),
    ("POST", "/1.0/projects/{project}", rename, Permission.ADMIN),
    ("DELETE", "/1.0/projects/{project}", delete, Permission.ADMIN),
)
