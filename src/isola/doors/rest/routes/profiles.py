"""Profiles."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from isola.doors.rest.answers import created, sync
from isola.doors.rest.filtering import select
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.profiles import profile_json, writable
from isola.model.profile import Profile


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or profiles."""
    profiles = request.services.profiles
    shapes = [profile_json(profile, profiles.used_by(profile.name)) for profile in profiles]
    shapes = select(shapes, request.query.get("filter", ""))
    return sync(shapes if request.recursion else [f"/1.0/profiles/{shape['name']}" for shape in shapes])


async def create(request: Request) -> web.StreamResponse:
    """A new profile."""
    fields = await request.fields()
    profile = Profile(
        name=fields.text("name"),
        description=fields.text("description", ""),
        config=fields.mapping("config"),
        devices=fields.mappings("devices"),
    )
    await request.services.profiles.create(profile)
    return created(f"/1.0/profiles/{profile.name}")


async def get(request: Request) -> web.StreamResponse:
    """One profile."""
    profile = _find(request)
    return sync(profile_json(profile, request.services.profiles.used_by(profile.name)), etag=writable(profile))


async def put(request: Request) -> web.StreamResponse:
    """Replace it."""
    fields = await request.fields()
    description, config, devices = fields.text("description", ""), fields.mapping("config"), fields.mappings("devices")
    return await _update(request, lambda profile: Profile(profile.name, description, config, devices))


async def patch(request: Request) -> web.StreamResponse:
    """Change some of it; a key set to nothing goes."""
    fields = await request.fields()

    def merge(profile: Profile) -> Profile:
        return Profile(
            profile.name,
            fields.text("description", profile.description),
            {key: value for key, value in {**profile.config, **fields.mapping("config", empty=True)}.items() if value},
            {**profile.devices, **fields.mappings("devices")},
        )

    return await _update(request, merge)


async def rename(request: Request) -> web.StreamResponse:
    """Give it another name."""
    fields = await request.fields()
    new = fields.text("name")
    await request.services.profiles.rename(_find(request).name, new)
    return created(f"/1.0/profiles/{new}")


async def delete(request: Request) -> web.StreamResponse:
    """Remove it."""
    await request.services.profiles.delete(_find(request).name)
    return sync()


async def _update(request: Request, decide: Callable[[Profile], Profile]) -> web.StreamResponse:
    await request.services.profiles.update(_find(request).name, request.matching(writable, decide))
    return sync()


def _find(request: Request) -> Profile:
    return request.services.profiles.get(request.parameters["name"])


ROUTES = (
    ("GET", "/1.0/profiles", list_all, Permission.VIEW),
    ("POST", "/1.0/profiles", create, Permission.EDIT),
    ("GET", "/1.0/profiles/{name}", get, Permission.VIEW),
    ("PUT", "/1.0/profiles/{name}", put, Permission.EDIT),
    ("PATCH", "/1.0/profiles/{name}", patch, Permission.EDIT),
    ("POST", "/1.0/profiles/{name}", rename, Permission.EDIT),
    ("DELETE", "/1.0/profiles/{name}", delete, Permission.EDIT),
)
