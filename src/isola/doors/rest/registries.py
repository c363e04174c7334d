"""Images of registries in requests: names, credentials, pulls."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from isola.doors.http.reading import Fields
from isola.doors.rest.answers import background
from isola.doors.rest.request import Request
from isola.errors import InvalidInput
from isola.images.registry.credentials import Credentials, credentials_of
from isola.model.image_reference import DOCKER_HUB, ImageReference, check_domain, names_registry, parse
from isola.model.names import alias_name
from isola.model.reference import Kind

PROTOCOL = "oci"
_FORMS = ("username", "password", "auth", "identitytoken", "registrytoken")


def reference_of(request: Request, source: Fields) -> ImageReference:
    """The image that a source with ``protocol`` ``oci`` names: ``alias``, at ``server`` unless it has a registry."""
    alias, server = source.text("alias"), source.text("server", "")
    default = request.services.images.registries.settings.default
    if not server and not default and not names_registry(alias):
        raise InvalidInput(
            f"The name {alias[:80]!r} has no registry",
            field="source.alias",
            remedy=f"use {DOCKER_HUB}/{alias[:80]}, or set images.registry.default",
        )
    return parse(alias, _domain(server) if server else default or DOCKER_HUB)


def credentials_in(fields: Fields) -> Credentials:
    """``credentials``: in the form in which Docker stores them."""
    inside = fields.inside("credentials")
    return credentials_of({name: inside.text(name, "") for name in _FORMS})


def begin_pull(request: Request, fields: Fields, source: Fields) -> web.StreamResponse:
    """Start pulling an image."""
    names = [alias_name(alias.text("name"), "aliases") for alias in fields.objects("aliases")]
    reference = reference_of(request, source)
    operation = request.services.images.registries.start_pull(
        reference,
        platform=source.mapping("options").get("platform", ""),
        credentials=credentials_in(source),
        aliases=names,
        public=fields.boolean("public"),
        auto_update=fields.boolean("auto_update"),
        project=request.home(Kind.IMAGE),
        caller=request.caller,
    )
    return background(operation)


def _domain(server: str) -> str:
    """The registry in ``https://registry.example:5000``."""
    parts = urlsplit(server if "://" in server else f"https://{server}")
    try:
        return check_domain(parts.netloc)
    except ValueError as error:
        raise InvalidInput(f"Invalid registry {server[:80]!r}", field="source.server", remedy=str(error)) from error
