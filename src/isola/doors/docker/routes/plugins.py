"""Plugins of Docker, of which this server has none."""

from __future__ import annotations

from aiohttp import web

from isola.doors.docker.answers import answer
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.errors import NotFound, Unsupported


async def list_plugins(request: Request) -> web.StreamResponse:
    """None."""
    return answer([])


async def refuse_unknown(request: Request) -> web.StreamResponse:
    """404: no plugin has the name."""
    raise NotFound(f'plugin "{request.parameters["name"][:200]}" not found')


async def refuse_to_install(request: Request) -> web.StreamResponse:
    """501: plugins cannot be installed."""
    raise Unsupported("Plugins are not offered by this server")


ROUTES: tuple[Route, ...] = (
    ("GET", "/plugins", list_plugins, Permission.TRUSTED),
    ("GET", "/plugins/privileges", refuse_to_install, Permission.TRUSTED),
    ("POST", "/plugins/pull", refuse_to_install, Permission.ADMIN),
    ("POST", "/plugins/create", refuse_to_install, Permission.ADMIN),
    ("GET", "/plugins/{name...}/json", refuse_unknown, Permission.TRUSTED),
    ("DELETE", "/plugins/{name...}", refuse_unknown, Permission.ADMIN),
    *(
        ("POST", f"/plugins/{{name...}}/{verb}", refuse_unknown, Permission.ADMIN)
        for verb in ("enable", "disable", "upgrade", "push", "set")
    ),
)
