"""Profiles."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from isola.doors.rest.addresses import address, address_of
from isola.doors.rest.answers import created, sync
from isola.doors.rest.filtering import select_records
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.profiles import profile_json, writable
from isola.model.profile import Profile
from isola.model.reference import Kind


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or profiles."""
    profiles = request.services.profiles
    listed = [profile for profile in profiles if request.lists(profile.entity)]
    found = select_records(listed, lambda profile: _shape(request, profile), request.query.get("filter", ""))
    return sync([shape if request.recursion else address(profile.entity) for profile, shape in found])


async def create(request: Request) -> web.StreamResponse:
    """Create a profile."""
    fields = await request.fields()
    profile = Profile(
        name=fields.text("name"),
        project=request.home(Kind.PROFILE),
        description=fields.text("description", ""),
        config=fields.mapping("config"),
        devices=fields.mappings("devices"),
    )
    await request.services.profiles.create(profile, caller=request.caller)
    return created(address(profile.entity))


async def get(request: Request) -> web.StreamResponse:
    """One profile."""
    profile = _find(request)
    return sync(_shape(request, profile), etag=writable(profile))


async def put(request: Request) -> web.StreamResponse:
    """Replace configuration, devices and description."""
    fields = await request.fields()
    description, config, devices = fields.text("description", ""), fields.mapping("config"), fields.mappings("devices")
    return await _update(request, lambda profile: Profile(profile.name, description, config, devices))


async def patch(request: Request) -> web.StreamResponse:
    """Change some fields; an empty key is removed."""
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
    """Rename a profile."""
    fields = await request.fields()
    new = fields.text("name")
    ref = _find(request).ref
    await request.services.profiles.rename(ref, new, caller=request.caller)
    return created(address_of(Kind.PROFILE, ref.renamed(new)))


async def delete(request: Request) -> web.StreamResponse:
    """Delete an unused profile."""
    await request.services.profiles.delete(_find(request).ref, caller=request.caller)
    return sync()


async def _update(request: Request, decide: Callable[[Profile], Profile]) -> web.StreamResponse:
    ref, matching = _find(request).ref, request.matching(writable, decide)
    await request.services.profiles.update(ref, matching, caller=request.caller)
    return sync()


def _find(request: Request) -> Profile:
    return request.services.profiles.get(request.ref(request.parameters["name"], Kind.PROFILE))


def _shape(request: Request, profile: Profile) -> dict[str, object]:
    return profile_json(profile, request.users(request.services.profiles.used_by(profile.ref)))


ROUTES = (
    ("GET", "/1.0/profiles", list_all, Permission.VIEW),
    ("POST", "/1.0/profiles", create, Permission.EDIT),
    ("GET", "/1.0/profiles/{name}", get, Permission.VIEW),
    ("PUT", "/1.0/profiles/{name}", put, Permission.EDIT),
    ("PATCH", "/1.0/profiles/{name}", patch, Permission.EDIT),
    ("POST", "/1.0/profiles/{name}", rename, Permission.EDIT),
    ("DELETE", "/1.0/profiles/{name}", delete, Permission.EDIT),
)
