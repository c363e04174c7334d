"""A cache as an artifact of OCI: a document with results by key, and their layers. Pure; what is read is untrusted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from isola.errors import InvalidInput
from isola.images.descriptor import DISK_TYPE, LAYER_TYPES, MANIFEST_TYPE, Descriptor, is_sha256
from isola.images.hostile_json import MAX_DOCUMENT, Fields
from isola.images.oci_manifest import MAX_LAYERS, Manifest
from isola.model.build import BuildResult
from isola.model.image import Layer

CACHE_TYPE = "application/vnd.isola.build.cache.v1+json"
"""Media type of the document, which is the configuration of the artifact."""
ANNOTATION = "org.isola.build.cache"
"""Of an image that has the document of its own layers in its manifest."""
LARGEST_ANNOTATION = 60_000
"""Characters: readers refuse longer ones."""
_MOST_RESULTS = 5000
_LARGEST = MAX_DOCUMENT - 1000
"""Bytes of all results: readers refuse larger documents."""
_TYPES = frozenset(LAYER_TYPES) - {DISK_TYPE}
"""Of layers: no instruction makes a disk."""
_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kept:
    """The result of an instruction, by a key that says nothing of the project."""

    key: str
    created_at: datetime
    digest: str = ""
    """Of its layer; empty: it changed no file."""
    diff_id: str = ""


def kept(key: str, result: BuildResult) -> Kept:
    """One, as it is exported."""
    layer = result.layer
    digest, diff_id = (layer.digest, layer.diff_id) if layer is not None else ("", "")
    return Kept(key, result.created_at, digest, diff_id)


def document(results: Iterable[Kept]) -> bytes:
    """Equal results give an equal document. Instructions are not in it: they may have values that no image shows."""
    found = {each.key: each for each in results}
    return orjson.dumps({"version": 1, "results": [_entry(each) for _, each in sorted(found.items())]})


def _entry(each: Kept) -> dict[str, str]:
    return {
        "key": each.key,
        "created": each.created_at.isoformat(),
        **({"digest": each.digest, "diff_id": each.diff_id} if each.digest else {}),
    }


def manifest(config: Descriptor, layers: Iterable[Layer]) -> Manifest:
    """Of a cache."""
    found = {layer.digest: Descriptor(layer.media_type, layer.digest, layer.size) for layer in layers}
    return Manifest(MANIFEST_TYPE, config, tuple(found[digest] for digest in sorted(found)))


def bounded(results: Iterable[Kept]) -> list[Kept]:
    """Those that fit into one artifact: the first, because what follows depends on them."""
    layers, taken, size = set[str](), list[Kept](), 0
    for each in results:
        layers |= {each.digest} if each.digest else set()
        size += len(orjson.dumps(_entry(each))) + 1
        if len(layers) > MAX_LAYERS or len(taken) >= _MOST_RESULTS or size > _LARGEST:
            break
        taken.append(each)
    return taken


def read(data: bytes, layers: Sequence[Descriptor]) -> Mapping[str, BuildResult]:
    """Results by key, of those whose layers the manifest has. Raises InvalidInput."""
    fields = Fields.parse(data, "cache")
    if fields.number("version") != 1:
        raise InvalidInput("The cache is of another version", field="version")
    known = {each.digest: each for each in layers if each.media_type in _TYPES and is_sha256(each.digest)}
    found = [_result(each, known) for each in fields.objects("results", _read, most=_MOST_RESULTS)]
    return {each.key: each for each in found if each is not None}


def _read(fields: Fields) -> Kept:
    key, digest, diff_id = (fields.text(name, longest=200) for name in ("key", "digest", "diff_id"))
    if not _KEY.fullmatch(key) or (digest and not (is_sha256(digest) and is_sha256(diff_id))):
        raise fields.wrong("key", "is no result of an instruction")
    try:
        created = datetime.fromisoformat(fields.text("created", longest=80)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise fields.wrong("created", "is no time") from None
    return Kept(key, created, digest, diff_id)


def _result(each: Kept, layers: Mapping[str, Descriptor]) -> BuildResult | None:
    layer = None
    if each.digest:
        if (at := layers.get(each.digest)) is None:
            return None
        layer = Layer(at.digest, LAYER_TYPES[at.media_type], at.size, each.diff_id)
    return BuildResult(each.key, each.created_at, each.created_at, "", layer)
