"""Certificates of clients, and tokens with which clients add their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from isola.access.certificates import may_see, refusal_of_change
from isola.doors.http.reading import Fields
from isola.doors.rest.answers import sync
from isola.doors.rest.filtering import select
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.shapes.certificates import certificate_json, writable
from isola.errors import Forbidden, NotFound
from isola.model.certificate import Certificate

_ROOT = "/1.0/certificates"


async def list_all(request: Request) -> web.StreamResponse:
    """Paths, or certificates; clients that are restricted to projects see their own."""
    visible = [each for each in request.services.certificates if may_see(request.caller, each)]
    shapes = select([certificate_json(each) for each in visible], request.query.get("filter", ""))
    return sync(shapes if request.recursion else [f"{_ROOT}/{shape['fingerprint']}" for shape in shapes])


async def get(request: Request) -> web.StreamResponse:
    """One certificate, by its fingerprint or a prefix of it."""
    found = _find(request)
    return sync(certificate_json(found), etag=writable(found))


async def put(request: Request) -> web.StreamResponse:
    """Replace name, type, projects, description, or the certificate itself."""
    fields = await request.fields()
    return await _update(
        request,
        lambda found: Certificate(
            fingerprint=found.fingerprint,
            certificate=fields.text("certificate", "") or found.certificate,
            name=fields.text("name", ""),
            type=fields.text("type", "") or found.type,
            restricted=fields.boolean("restricted"),
            projects=fields.texts("projects"),
            description=fields.text("description", ""),
            created_at=found.created_at,
        ),
    )


async def patch(request: Request) -> web.StreamResponse:
    """Change some fields."""
    fields = await request.fields()
    return await _update(request, lambda found: _patched(found, fields))


async def delete(request: Request) -> web.StreamResponse:
    """Remove a certificate and close its connections."""
    await request.services.certificates.remove(_find(request).fingerprint, caller=request.caller)
    return sync()


def _patched(found: Certificate, fields: Fields) -> Certificate:
    return replace(
        found,
        certificate=fields.text("certificate", "") or found.certificate,
        name=fields.text("name", found.name),
        type=fields.text("type", found.type),
        restricted=fields.boolean("restricted", found.restricted),
        projects=fields.texts("projects") if fields.has("projects") else found.projects,
        description=fields.text("description", found.description),
    )


async def _update(request: Request, decide: Callable[[Certificate], Certificate]) -> web.StreamResponse:
    def allowed(found: Certificate) -> Certificate:
        wanted = decide(found)
        if reason := refusal_of_change(request.caller, found, wanted):
            raise Forbidden(reason)
        return wanted

    matching = request.matching(writable, allowed)
    await request.services.certificates.update(_find(request).fingerprint, matching, caller=request.caller)
    return sync()


def _find(request: Request) -> Certificate:
    """The certificate of the path. Raises NotFound also for one that the caller may not see."""
    wanted = request.parameters["fingerprint"]
    caller, certificates = request.caller, request.services.certificates
    if not caller.admin and not (wanted and caller.name.startswith(wanted.lower())):
        raise NotFound(f"Certificate {wanted[:80]!r} not found")
    return certificates.find(wanted if caller.admin else caller.name)


ROUTES = (
    ("GET", _ROOT, list_all, Permission.TRUSTED),
    ("GET", _ROOT + "/{fingerprint}", get, Permission.TRUSTED),
    ("PUT", _ROOT + "/{fingerprint}", put, Permission.TRUSTED),
    ("PATCH", _ROOT + "/{fingerprint}", patch, Permission.TRUSTED),
    ("DELETE", _ROOT + "/{fingerprint}", delete, Permission.TRUSTED),
)
