"""Images and registries: pushing an image, looking up a name."""

from __future__ import annotations

from aiohttp import web

from isola.doors.rest.answers import background
from isola.doors.rest.registries import credentials_in
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.model.image_reference import DOCKER_HUB, parse
from isola.model.reference import Kind


async def push(request: Request) -> web.StreamResponse:
    """Start pushing an image to a registry, under the name ``reference``."""
    fields = await request.fields()
    registries = request.services.images.registries
    to = parse(fields.text("reference"), registries.settings.default or DOCKER_HUB)
    operation = registries.start_push(
        request.ref(request.parameters["fingerprint"], Kind.IMAGE),
        to,
        credentials=credentials_in(fields),
        caller=request.caller,
    )
    return background(operation)


ROUTES = (("POST", "/1.0/images/{fingerprint}/push", push, Permission.EDIT),)
