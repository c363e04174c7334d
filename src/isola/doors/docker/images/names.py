"""Names of images: tags and digests, as clients of Docker know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from isola.doors.docker.request import Request
from isola.errors import InvalidInput
from isola.model import image_reference
from isola.model.image import Alias, Image
from isola.model.image_reference import ImageReference
from isola.model.reference import Kind


@dataclass(frozen=True, slots=True)
class Names:
    """The aliases of one image."""

    aliases: tuple[Alias, ...] = ()

    @property
    def tags(self) -> list[str]:
        """``nginx:1.27``."""
        return sorted(familiar(alias.name) for alias in self.aliases if "@" not in alias.name)

    def digests(self, image: Image) -> list[str]:
        """``nginx@sha256:...``, of each repository once."""
        found = set()
        for alias in self.aliases:
            reference = image_reference.parse_full(alias.name)
            if reference is not None:
                digest = reference.digest or image.index or image.manifest
                found.add(f"{reference.familiar_name}@{digest}")
        return sorted(found)


def names_by_image(request: Request) -> Mapping[str, Names]:
    """The names of all images of the door's project, by fingerprint."""
    home, found = request.home(Kind.IMAGE), dict[str, list[Alias]]()
    for alias in request.services.images.aliases():
        if alias.project == home:
            found.setdefault(alias.target, []).append(alias)
    return {fingerprint: Names(tuple(aliases)) for fingerprint, aliases in found.items()}


def names_of(request: Request, image: Image) -> Names:
    return names_by_image(request).get(image.fingerprint, Names())


def familiar(alias: str) -> str:
    """An alias as Docker shows names: with a tag, without what is implied."""
    found = image_reference.parse_full(alias)
    if found is None:
        return alias if ":" in alias else f"{alias}:latest"
    return found.tagged().familiar


def find_alias(request: Request, text: str) -> Alias | None:
    """The alias that a client's text names, None if it is an id or unknown."""
    home = request.home(Kind.IMAGE)
    known = {alias.name: alias for alias in request.services.images.aliases() if alias.project == home}
    return next((known[name] for name in spellings(text) if name in known), None)


def spellings(text: str) -> Sequence[str]:
    """Aliases that a name may mean, in order."""
    if image_reference.is_id(text):
        return ()
    try:
        full = [image_reference.parse(text).tagged().full]
    except InvalidInput:
        full = []
    return (*full, text, text.removesuffix(":latest"))


def same_repository(aliases: Iterable[Alias], reference: ImageReference) -> list[Alias]:
    """Those with another tag or digest of the repository."""
    found = [(alias, image_reference.parse_full(alias.name)) for alias in aliases]
    return [alias for alias, name in found if name is not None and name.name == reference.name]
