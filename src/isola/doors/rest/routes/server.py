"""The server: its environment, configuration and the host's resources."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from isola.doors.rest.answers import sync, sync_bytes
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.resources import resources_json
from isola.doors.rest.shapes.server import guest_json
from isola.model.instance import Config
from isola.model.reference import Entity, Kind


async def versions(request: Request) -> web.StreamResponse:
    """The versions of the API."""
    return sync(["/1.0"])


async def get(request: Request) -> web.StreamResponse:
    """Extensions, configuration, environment; untrusted callers see the extensions only."""
    if not request.caller.trusted:
        return sync(guest_json())
    return sync_bytes(
        request.rendering.server(request.caller, request.project), etag=_writable(request.services.server.config)
    )


async def put(request: Request) -> web.StreamResponse:
    """Replace the configuration."""
    wanted = (await request.fields()).mapping("config")
    return await _update(request, lambda config: wanted)


async def patch(request: Request) -> web.StreamResponse:
    """Change some keys; an empty key is removed."""
    wanted = (await request.fields()).mapping("config", empty=True)
    return await _update(request, lambda config: {**config, **wanted})


async def resources(request: Request) -> web.StreamResponse:
    """Processors, memory, cards and disks of the host."""
    system = request.services.host.system

    def look() -> dict[str, object]:
        found = resources_json(system.kernel(), system.cpus(), system.memory(), system.devices())
        label = system.apparmor()
        confined = {} if label is None else {"apparmor": label}
        return {**found, "kernel_limits": system.kernel_limits(), **confined}

    return sync(await asyncio.to_thread(look))


async def _update(request: Request, decide: Callable[[Config], Config]) -> web.StreamResponse:
    await request.services.server.update(request.matching(_writable, decide))
    request.services.events.lifecycle("config-updated", Entity.of_host(Kind.SERVER), caller=request.caller)
    return sync()


def _writable(config: Config) -> dict[str, object]:
    return {"config": dict(config)}


ROUTES = (
    ("GET", "/", versions, Permission.GUEST),
    ("GET", "/1.0", get, Permission.GUEST),
    ("PUT", "/1.0", put, Permission.ADMIN),
    ("PATCH", "/1.0", patch, Permission.ADMIN),
    ("GET", "/1.0/resources", resources, Permission.TRUSTED),
)
