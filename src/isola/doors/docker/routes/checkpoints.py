"""Checkpoints of containers."""

from __future__ import annotations

from aiohttp import web

from isola.doors.docker.answers import answer, created, empty
from isola.doors.docker.containers import checkpoints
from isola.doors.docker.containers.stopping import kill_container
from isola.doors.docker.containers.view import view
from isola.doors.docker.identity import named
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission

_KILL = 9


async def create(request: Request) -> web.StreamResponse:
    """With ``Exit`` it is killed afterwards."""
    fields = await request.fields()
    name, exits = fields.text("CheckpointID", ""), fields.boolean("Exit")
    checkpoints.require_own_place(fields.text("CheckpointDir", ""))
    seen = view(request, named(request))
    await checkpoints.take(request, seen, name)
    if exits:
        await kill_container(request, seen.instance, _KILL)
    return created({})


async def list_all(request: Request) -> web.StreamResponse:
    """The oldest first."""
    checkpoints.require_own_place(request.query.get("dir", ""))
    return answer([{"Name": name} for name in checkpoints.checkpoints_of(request, named(request))])


async def delete(request: Request) -> web.StreamResponse:
    """With its snapshot of the files."""
    checkpoints.require_own_place(request.query.get("dir", ""))
    instance, name = named(request), request.parameters["checkpoint"]
    checkpoints.require(request, instance, name)
    operation = request.services.instances.snapshots.delete(instance.ref, name, caller=request.caller)
    await request.services.operations.finish(operation)
    return empty()


ROUTES = (
    ("GET", "/containers/{name}/checkpoints", list_all, Permission.VIEW),
    ("POST", "/containers/{name}/checkpoints", create, Permission.EDIT),
    ("DELETE", "/containers/{name}/checkpoints/{checkpoint}", delete, Permission.EDIT),
)
