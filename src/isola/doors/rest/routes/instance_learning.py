"""What a workload uses, recorded for a profile of least privilege. An addition to the API."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.answers import sync
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.instances.learning import as_mapping


async def begin(request: Request) -> web.StreamResponse:
    """Begin to record what the instance uses."""
    await request.services.instances.learning.begin(instance_of(request).ref, caller=request.caller)
    return sync()


async def read(request: Request) -> web.StreamResponse:
    """What it has used until now, and the ``config`` of a profile that permits no more."""
    found = await request.services.instances.learning.read(instance_of(request).ref, caller=request.caller)
    return sync(as_mapping(found))


async def end(request: Request) -> web.StreamResponse:
    """End the recording."""
    await request.services.instances.learning.end(instance_of(request).ref, caller=request.caller)
    return sync()


ROUTES = in_every_tree(
    ("POST", "/1.0/instances/{name}/learning", begin, Permission.EDIT),
    ("GET", "/1.0/instances/{name}/learning", read, Permission.EDIT),
    ("DELETE", "/1.0/instances/{name}/learning", end, Permission.EDIT),
)
