"""Projects: there is one, ``default``."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.addresses import address
from isola.doors.rest.answers import sync
from isola.doors.rest.filtering import select
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.errors import NotFound, Unsupported
from isola.model.reference import DEFAULT_PROJECT

_FEATURES = ("images", "networks", "profiles", "storage.buckets", "storage.volumes")


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or projects."""
    visible = [_shape(request)] if request.caller.may_use(DEFAULT_PROJECT) else []
    shapes = select(visible, request.query.get("filter", ""))
    return sync(shapes if request.recursion else [f"/1.0/projects/{shape['name']}" for shape in shapes])


async def get(request: Request) -> web.StreamResponse:
    """One project."""
    _require_default(request)
    shape = _shape(request)
    return sync(shape, etag={"config": shape["config"], "description": shape["description"]})


async def state(request: Request) -> web.StreamResponse:
    """What it uses of its limits, of which it has none."""
    # LXD writes these two names with capitals.
    _require_default(request)
    count = len(request.services.instances)
    return sync({"resources": {"instances": {"Limit": -1, "Usage": count}}})


async def refuse(request: Request) -> web.StreamResponse:
    """Refused: there is only the one."""
    raise Unsupported("Projects other than 'default' are not offered yet", remedy="use project default")


def _shape(request: Request) -> dict[str, object]:
    services = request.services
    users = [address(each.entity) for each in services.instances]
    users += [address(each.entity) for each in services.images]
    users += [address(each.entity) for each in services.profiles]
    users += [address(each.entity) for each in services.networks]
    return {
        "name": "default",
        "description": "Default Isola project",
        "config": {f"features.{feature}": "true" for feature in _FEATURES},
        "used_by": users,
    }


def _require_default(request: Request) -> None:
    name = request.parameters["project"]
    if name != "default":
        raise NotFound(f"Project {name[:80]!r} not found")


ROUTES = (
    ("GET", "/1.0/projects", list_all, Permission.TRUSTED),
    ("POST", "/1.0/projects", refuse, Permission.ADMIN),
    ("GET", "/1.0/projects/{project}", get, Permission.VIEW),
    ("GET", "/1.0/projects/{project}/state", state, Permission.VIEW),
    ("PUT", "/1.0/projects/{project}", refuse, Permission.ADMIN),
    ("PATCH", "/1.0/projects/{project}", refuse, Permission.ADMIN),
    ("POST", "/1.0/projects/{project}", refuse, Permission.ADMIN),
    ("DELETE", "/1.0/projects/{project}", refuse, Permission.ADMIN),
)
