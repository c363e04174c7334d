"""The image that a client's text names, and the names of an image."""

from __future__ import annotations

from isola.doors.docker.request import Request
from isola.errors import InvalidInput, IsolaError, NotFound
from isola.model import image_reference
from isola.model.image import Image
from isola.model.reference import Kind, Ref


def find_image(request: Request, text: str) -> Image:
    """By its full name, as typed, as typed without ``:latest``, by id or its beginning. Raises NotFound."""
    home = request.home(Kind.IMAGE)
    images = request.services.images
    for name in _names(text):
        try:
            found = images.resolve(Ref(home, name))
        except IsolaError:
            continue
        if found is not None:
            return found
    raise NotFound(f"No such image: {shown(text)}")


def shown(text: str) -> str:
    """As Docker repeats it in messages: with a tag."""
    try:
        return image_reference.parse(text).tagged().familiar
    except InvalidInput:
        return text[:200]


def image_id(fingerprint: str) -> str:
    """``sha256:`` and the fingerprint."""
    return f"sha256:{fingerprint}"


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
