"""Parsing image manifests and indexes of OCI and Docker, as untrusted input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from isola.errors import InvalidInput, Unsupported
from isola.images.descriptor import (
    CONFIG_TYPES,
    DISK_TYPE,
    INDEX_TYPE,
    INDEX_TYPES,
    LAYER_TYPES,
    MANIFEST_TYPE,
    MANIFEST_TYPES,
    Descriptor,
    is_digest,
)
from isola.images.hostile_json import Fields

MAX_LAYERS = 500
"""Docker creates at most 127 layers; overlay supports 500 lower directories per mount."""
_OS, _ARCHITECTURE, _VARIANT = "os", "architecture", "variant"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image, or an artifact that is attached to one (``subject``)."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def references(self) -> Iterator[Descriptor]:
        """Descriptors of all blobs that it refers to."""
        yield self.config
        yield from self.layers
        if self.subject is not None:
            yield self.subject


@dataclass(frozen=True, slots=True)
class Index:
    """An image index: manifests for several platforms, and attestations."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def references(self) -> Iterator[Descriptor]:
        """Descriptors of all blobs that it refers to."""
        yield from self.manifests
        if self.subject is not None:
            yield self.subject


def read_document(data: bytes, media_type: str = "", *, versioned: bool = False) -> Manifest | Index:
    """Determine a document's type by its ``mediaType``, the registry's Content-Type, or else its fields.

    Archives of images, and therefore the store, also have documents that leave out the version of their schema, or
    say 0; what registries exchange is ``versioned``.

    Raises InvalidInput, also if these contradict each other: two readers would see different images.
    """
    fields = Fields.parse(data, "manifest")
    declared = fields.text("mediaType", longest=255)
    if declared and media_type and declared != media_type:
        raise fields.wrong("mediaType", f"is {declared[:80]}, though it was announced as {media_type[:80]}")
    version = fields.number("schemaVersion")
    if version != 2 and (versioned or version):
        raise Unsupported(
            "The image manifest is not of schema version 2", remedy="push the image again with a current tool"
        )
    if "manifests" in fields and ("layers" in fields or "config" in fields):
        raise InvalidInput("The document is both an image index and an image manifest", field="manifest")
    kind = declared or media_type or (INDEX_TYPE if "manifests" in fields else MANIFEST_TYPE)
    if kind in INDEX_TYPES:
        return _index(fields, kind)
    if kind in MANIFEST_TYPES:
        return _manifest(fields, kind)
    raise Unsupported(f"Documents of type {kind[:80]!r} are not images", remedy="use an OCI or Docker image")


def manifest_document(manifest: Manifest) -> bytes:
    """The document of an image's manifest; the same for equal ones."""
    document = {
        "schemaVersion": 2,
        "mediaType": manifest.media_type,
        "config": manifest.config.document(),
        "layers": [layer.document() for layer in manifest.layers],
        **({"annotations": dict(manifest.annotations)} if manifest.annotations else {}),
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def check_image(manifest: Manifest) -> None:
    """Raise Unsupported unless the manifest is an image that can be unpacked."""
    if manifest.config.media_type not in CONFIG_TYPES:
        raise Unsupported(
            f"The manifest describes {manifest.config.media_type[:80]!r}, not an image", remedy="name an image"
        )
    if len(manifest.layers) > 1 and any(layer.media_type == DISK_TYPE for layer in manifest.layers):
        raise Unsupported("The disk of a virtual machine is not the only layer", remedy="use an image with one layer")
    for layer in manifest.layers:
        if layer.media_type not in LAYER_TYPES:
            raise Unsupported(
                f"Layers of type {layer.media_type[:80]!r} cannot be unpacked",
                remedy="use an image with unencrypted layers in tar format, all stored in the registry",
            )


def _index(fields: Fields, kind: str) -> Index:
    return Index(
        kind,
        fields.objects("manifests", _descriptor),
        _subject(fields),
        fields.text("artifactType", longest=255),
        fields.mapping("annotations"),
    )


def _manifest(fields: Fields, kind: str) -> Manifest:
    return Manifest(
        kind,
        _descriptor(fields.inner("config")),
        fields.objects("layers", _descriptor, most=MAX_LAYERS),
        _subject(fields),
        fields.text("artifactType", longest=255),
        fields.mapping("annotations"),
    )


def _subject(fields: Fields) -> Descriptor | None:
    return _descriptor(fields.inner("subject")) if "subject" in fields else None


def _descriptor(fields: Fields) -> Descriptor:
    digest = fields.text("digest", longest=200)
    if not is_digest(digest):
        raise fields.wrong("digest", "is not sha256:<64 hex digits> or sha512:<128 hex digits>")
    platform = fields.inner("platform")
    return Descriptor(
        fields.text("mediaType", longest=255),
        digest,
        fields.number("size"),
        fields.mapping("annotations"),
        {key: platform.text(key, longest=80) for key in (_OS, _ARCHITECTURE, _VARIANT) if key in platform},
        fields.text("artifactType", longest=255),
    )
