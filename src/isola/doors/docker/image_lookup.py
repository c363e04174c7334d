"""The image that a client's text names, and the names of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from isola.doors.docker.request import Request
from isola.doors.docker.versions import Version
from isola.errors import InvalidInput, IsolaError, NotFound
from isola.images.architecture import platform
from isola.images.platforms import oci_name
from isola.model import image_reference
from isola.model.image import Image
from isola.model.reference import Kind, Ref

_DESCRIBED: Version = (1, 48)
_PARTS = ("os", "architecture", "variant")


def find_image(request: Request, text: str) -> Image:
    """By its full name, as typed, as typed without ``:latest``, by id or its beginning; then as a short name.

    Raises NotFound; InvalidInput for what can neither be a name nor an id.
    """
    home = request.home(Kind.IMAGE)
    images = request.services.images
    for name in (*_names(text), *filter(None, [images.short_name(text)])):
        try:
            found = images.resolve(Ref(home, name))
        except IsolaError:
            continue
        if found is not None and _has_repository(request, found, text):
            return found
    if not image_reference.is_id(text):
        image_reference.parse(text)
    raise NotFound(f"No such image: {shown(text)}")


def check_platform(request: Request, image: Image, text: str, asked: str | None = None) -> None:
    """Of the parameter ``platform``, as JSON. Raises InvalidInput, and NotFound for an image of another platform.

    ``asked``: of another parameter.
    """
    wanted = wanted_platform(request) if asked is None else _platform(asked)
    if not wanted or fits(image, wanted):
        return
    name = "/".join(wanted[part] for part in _PARTS if part in wanted)
    raise NotFound(f"image with reference {shown(text)} was found but does not provide the specified platform ({name})")


def wanted_platform(request: Request) -> dict[str, str]:
    """``os``, ``architecture`` and ``variant`` of the parameter ``platform``; empty without it. Raises InvalidInput."""
    return _platform(request.query.get("platform", ""))


def _platform(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        found = orjson.loads(text)
        wanted = {part: str(found[part]) for part in _PARTS if found.get(part)}
    except (orjson.JSONDecodeError, AttributeError):
        raise InvalidInput(f"failed to parse platform: {text[:80]!r} is not a JSON object", field="platform") from None
    if "architecture" in wanted:
        wanted["architecture"] = oci_name(wanted["architecture"])
    return wanted


def fits(image: Image, wanted: Mapping[str, str]) -> bool:
    """Whether an image is for a platform."""
    own = platform(image.architecture)
    return all(own.get(part, value if part == "variant" else "") == value for part, value in wanted.items())


def shown(text: str) -> str:
    """As Docker repeats it in messages: with a tag."""
    try:
        return image_reference.parse(text).tagged().familiar
    except InvalidInput:
        return text[:200]


def manifest_of(request: Request, fingerprint: str | None) -> dict[str, Any]:
    """``ImageManifestDescriptor`` of a container, as long as its image is there and in versions that have it."""
    if not fingerprint or request.version < _DESCRIBED:
        return {}
    image = request.services.images.resolve(Ref(request.home(Kind.IMAGE), fingerprint))
    return {} if image is None else {"ImageManifestDescriptor": request.services.images.manifest(image).document()}


def image_id(fingerprint: str) -> str:
    """``sha256:`` and the fingerprint."""
    return f"sha256:{fingerprint}"


def _has_repository(request: Request, image: Image, text: str) -> bool:
    """Whether an image that a text names by its digest has a name in the repository that the text names."""
    if "@" not in text:
        return True
    wanted = image_reference.parse(text)
    names = (image_reference.parse_full(alias.name) for alias in request.services.images.names_of(image))
    return any(name is not None and name.name == wanted.name for name in names)


def _names(text: str) -> list[str]:
    if image_reference.is_id(text):
        return [text.removeprefix("sha256:")]
    names = []
    try:
        found = image_reference.parse(text).tagged()
        names.append(found.full)
        if found.digest:
            names.append(found.digest.removeprefix("sha256:"))
    except InvalidInput:
        pass
    return [*names, text, text.removesuffix(":latest"), text.removeprefix("sha256:")]
