"""``--cache-from`` and ``--cache-to`` as BuildKit's clients write them: a type with attributes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from isola.errors import InvalidInput, Unsupported
from isola.model.build import BuildRequest
from isola.model.build_cache import CacheExport, CacheImport, CacheType
from isola.model.image_reference import parse

MOST = 50
INLINE_CACHE = "BUILDKIT_INLINE_CACHE"
"""A build argument that no Dockerfile has to declare."""
_DIRECTORY = re.compile(r"cache-\d{1,3}", re.ASCII)
_TYPES = (CacheType.REGISTRY, CacheType.LOCAL, CacheType.INLINE)
_READ = frozenset(("type", "ref", "directory", "mode", "ignore-error"))
_IGNORED = frozenset(
    ("compression", "compression-level", "force-compression", "oci-mediatypes", "image-manifest", "image-resolve-mode")
)
"""How BuildKit writes its own caches."""


def cache_import(fields: Mapping[str, str]) -> CacheImport | None:
    """None for one that has nothing of its own. Raises InvalidInput, Unsupported."""
    kind = _type(fields, "cache_from")
    if kind is CacheType.INLINE:
        return None  # as in BuildKit: the image is named with the type registry
    return CacheImport(kind, _name(kind, fields, "cache_from"))


def cache_export(fields: Mapping[str, str]) -> CacheExport:
    """Raises InvalidInput, Unsupported."""
    kind = _type(fields, "cache_to")
    mode = fields.get("mode", "") or "max"
    if mode not in ("min", "max"):
        raise InvalidInput(f"unknown mode {mode[:40]!r} of a cache", field="cache_to", remedy="use min or max")
    name = "" if kind is CacheType.INLINE else _name(kind, fields, "cache_to")
    return CacheExport(kind, name, everything=mode == "max", ignore_error=_flag(fields, "ignore-error"))


def directories_of(imports: Iterable[CacheImport]) -> tuple[str, ...]:
    """Of those that the client sends."""
    return tuple(each.name for each in imports if each.type is CacheType.LOCAL)


def with_inline_cache(request: BuildRequest) -> BuildRequest:
    """The export that a build argument stands for, as in BuildKit."""
    if request.arguments.get(INLINE_CACHE, "").lower() not in ("1", "true"):
        return request
    return replace(request, exports=(*request.exports, CacheExport(CacheType.INLINE)))


def _type(fields: Mapping[str, str], field: str) -> CacheType:
    text = fields.get("type", "")
    if text not in _TYPES:
        raise Unsupported(
            f"Caches of the type {text[:40]!r} are not offered", field=field, remedy=f"use {', '.join(_TYPES)}"
        )
    if unknown := sorted(set(fields) - _READ - _IGNORED):
        raise Unsupported(f"The attribute {unknown[0][:40]!r} of caches is not offered", field=field)
    return CacheType(text)


def _name(kind: CacheType, fields: Mapping[str, str], field: str) -> str:
    if kind is CacheType.REGISTRY:
        if not fields.get("ref"):
            raise InvalidInput("A cache of a registry needs a ref", field=field, remedy="type=registry,ref=NAME")
        return parse(fields["ref"]).tagged().full
    directory = fields.get("directory", "")
    if not _DIRECTORY.fullmatch(directory):
        raise InvalidInput("The directory of a local cache is not named cache-N", field=field)
    return directory


def _flag(fields: Mapping[str, str], name: str) -> bool:
    text = fields.get(name, "") or "false"
    if text.lower() not in ("true", "false", "1", "0"):
        raise InvalidInput(f"{name} of a cache is true or false", field="cache_to")
    return text.lower() in ("true", "1")
