"""Images and aliases."""

from __future__ import annotations

from collections.abc import Iterable

from isola.doors.rest.shapes.times import UNSET, moment
from isola.model.image import Alias, Image
from isola.model.reference import Ref


def image_json(image: Image, aliases: Iterable[Alias]) -> dict[str, object]:
    """An image as the API documents it, with our ``system`` and ``source``."""
    return {
        "fingerprint": image.fingerprint,
        "aliases": [{"name": alias.name, "description": alias.description} for alias in aliases],
        "architecture": image.architecture,
        "auto_update": image.auto_update,
        "cached": image.cached,
        "created_at": moment(image.created_at),
        "expires_at": moment(image.expires_at, UNSET),
        "filename": image.filename,
        "last_used_at": moment(image.last_used_at, UNSET),
        "profiles": list(image.profiles),
        "project": image.project,
        "properties": dict(image.properties),
        "public": image.public,
        "size": image.size,
        "type": image.type,
        "uploaded_at": moment(image.uploaded_at),
        "system": image.config.system,
        "source": dict(image.source),
    }


def writable(image: Image) -> dict[str, object]:
    """The fields that PUT replaces; the entity tag is computed of them."""
    return {
        "auto_update": image.auto_update,
        "expires_at": moment(image.expires_at, UNSET),
        "profiles": list(image.profiles),
        "properties": dict(image.properties),
        "public": image.public,
    }


def alias_json(alias: Alias) -> dict[str, object]:
    """An alias of an image."""
    return {"name": alias.name, "description": alias.description, "target": alias.target, "type": alias.type}


def by_target(aliases: Iterable[Alias]) -> dict[Ref, list[Alias]]:
    """Aliases by the fingerprint of their image."""
    found: dict[Ref, list[Alias]] = {}
    for alias in aliases:
        found.setdefault(alias.ref.renamed(alias.target), []).append(alias)
    return found
