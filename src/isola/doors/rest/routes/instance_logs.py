"""Log files of instances, and output of recorded commands."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.acting import publishing
from isola.doors.rest.addresses import in_project
from isola.doors.rest.answers import sync
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree

_OUTPUTS = "exec-output/"
_LXC_LOG = "lxc.log"
"""The log that LXD's clients request by name (``lxc info --show-log``): the error of a failed start, and the console's
log."""


async def list_all(request: Request) -> web.StreamResponse:
    """Paths of all log files."""
    instance = instance_of(request)
    names = await request.services.instances.logs.names(instance.ref)
    return sync([in_project(f"/1.0/{request.tree}/{instance.name}/logs/{name}", instance.project) for name in names])


async def list_outputs(request: Request) -> web.StreamResponse:
    """Paths of the output of recorded commands."""
    instance = instance_of(request)
    names = await request.services.instances.logs.names(instance.ref)
    outputs = [name for name in names if name.startswith(_OUTPUTS)]
    return sync([in_project(f"/1.0/{request.tree}/{instance.name}/logs/{name}", instance.project) for name in outputs])


async def get(request: Request) -> web.StreamResponse:
    """A log file, raw."""
    instances, ref, file = request.services.instances, instance_of(request).ref, _file(request)
    if file == _LXC_LOG and file not in await instances.logs.names(ref):
        data = await instances.logs.last_start(ref)
    else:
        data = await instances.logs.read(ref, file)
    return web.Response(body=data, content_type="application/octet-stream")


async def delete(request: Request) -> web.StreamResponse:
    """Remove a log file."""
    await request.services.instances.logs.delete(instance_of(request).ref, _file(request))
    return sync()


def _file(request: Request) -> str:
    """The file name below the directory of logs."""
    output = request.parameters.get("output")
    return request.parameters["file"] if output is None else _OUTPUTS + output


def _context(request: Request) -> dict[str, str]:
    return {"file": _file(request)}


_FILE = "/1.0/instances/{name}/logs/{file...}"
_OUTPUT = "/1.0/instances/{name}/logs/exec-output/{output...}"
ROUTES = in_every_tree(
    ("GET", "/1.0/instances/{name}/logs", list_all, Permission.VIEW),
    ("GET", "/1.0/instances/{name}/logs/exec-output", list_outputs, Permission.OPERATE),
    ("GET", _OUTPUT, publishing("instance-log-retrieved", get, _context), Permission.OPERATE),
    ("DELETE", _OUTPUT, publishing("instance-log-deleted", delete, _context), Permission.OPERATE),
    ("GET", _FILE, publishing("instance-log-retrieved", get, _context), Permission.VIEW),
    ("DELETE", _FILE, publishing("instance-log-deleted", delete, _context), Permission.OPERATE),
)
