"""Assembles an image from layers and files in the store: configuration, manifest, artifact, record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from isola.images.descriptor import CONFIG_TYPE, EMPTY_TYPE, MANIFEST_TYPE
from isola.images.manifest import Part, artifact_manifest, image_config, image_manifest
from isola.images.metadata import Metadata
from isola.images.store import Intake
from isola.images.vm_layers import type_of_layers
from isola.model.image import Image, ImageConfig, Layer
from isola.model.template import Template

_LABELS = {
    "os": "org.isola.image.os",
    "release": "org.isola.image.release",
    "variant": "org.isola.image.variant",
    "serial": "org.isola.image.serial",
    "description": "org.opencontainers.image.description",
    "version": "org.opencontainers.image.version",
}


@dataclass(frozen=True, slots=True)
class Ingredients:
    """The parts of an image; layers and files are in the store already."""

    fingerprint: str
    metadata: Metadata
    config: ImageConfig
    layers: Sequence[Layer]
    """Layers, each with its diff id."""
    parts: Sequence[Part]
    """The files of LXD's view, in the order in which the fingerprint covers them."""
    made_by: str
    properties: Mapping[str, str] = field(default_factory=dict)
    """Properties that override those of the metadata."""
    source: Mapping[str, str] = field(default_factory=dict)
    filename: str = ""
    templates: Sequence[Template] = ()


async def assemble(intake: Intake, ingredients: Ingredients, now: datetime) -> Image:
    """Write the OCI documents and describe the image."""
    metadata = ingredients.metadata
    properties = {**metadata.properties, **ingredients.properties}
    layers = tuple(ingredients.layers)
    config = image_config(
        ingredients.config,
        metadata.architecture,
        metadata.created_at,
        [layer.diff_id for layer in layers],
        labels={label: properties[key] for key, label in _LABELS.items() if properties.get(key)},
        made_by=ingredients.made_by,
    )
    manifest = image_manifest(await intake.put_bytes(config, CONFIG_TYPE), layers, ingredients.fingerprint)
    subject = await intake.put_bytes(manifest, MANIFEST_TYPE)
    empty = await intake.put_bytes(b"{}", EMPTY_TYPE)
    artifact = artifact_manifest(subject, empty, ingredients.fingerprint, ingredients.parts)
    return Image(
        fingerprint=ingredients.fingerprint,
        manifest=subject.digest,
        artifact=(await intake.put_bytes(artifact, MANIFEST_TYPE)).digest,
        size=sum(part.size for part in ingredients.parts),
        architecture=metadata.architecture,
        created_at=metadata.created_at,
        uploaded_at=now,
        expires_at=metadata.expires_at,
        layers=layers,
        config=ingredients.config,
        properties=properties,
        filename=ingredients.filename,
        source=dict(ingredients.source),
        templates=tuple(ingredients.templates),
        type=type_of_layers(layers),
    )
