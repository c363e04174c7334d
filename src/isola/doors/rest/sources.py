"""The image of which an instance is to be made, in requests."""

from __future__ import annotations

from isola.doors.http.reading import Fields
from isola.doors.rest.registries import PROTOCOL, reference_of
from isola.doors.rest.request import Request
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.model.instance import Config
from isola.model.reference import Kind


def image_of(source: Fields, request: Request) -> str | None:
    """Alias or fingerprint; None for none. Raises InvalidInput, NotFound, Unsupported."""
    kind = source.text("type", "")
    if kind == "none":
        return None
    if kind == "migration":
        raise Unsupported("Moving an instance from another server is not offered yet", field="source.type")
    if kind != "image":
        raise InvalidInput("Unknown kind of source", field="source.type", remedy="use image, copy or none")
    if source.text("protocol", "") == PROTOCOL:
        return reference_of(request, source).tagged().full
    if source.text("server", ""):
        raise Unsupported(
            "Images of other servers are not offered yet", field="source.server", remedy="import the image first"
        )
    named = source.text("fingerprint", "") or source.text("alias", "")
    return named or _image_with(source.mapping("properties"), request)


def _image_with(properties: Config, request: Request) -> str:
    if not properties:
        raise InvalidInput("No image is named", field="source.alias", remedy="give an alias or a fingerprint")
    try:
        return request.services.images.with_properties(request.home(Kind.IMAGE), properties).fingerprint
    except NotFound as error:
        raise NotFound(error.message, field="source.properties") from None
