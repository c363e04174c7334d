"""Makes an image of layers that are in the store or were just written, and a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from isola.images.descriptor import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, Descriptor
from isola.images.oci_config import OciConfig, write_config
from isola.images.oci_image import oci_image
from isola.images.oci_manifest import Manifest, manifest_document
from isola.images.store import Intake
from isola.model.image import Image, Layer

_NOTHING: Mapping[str, str] = {}
LAYER_KINDS: Mapping[str, str] = {"": LAYER_TYPE, "gzip": f"{LAYER_TYPE}+gzip", "zstd": f"{LAYER_TYPE}+zstd"}
"""Compressions that layers may have -> their media types."""


@dataclass(frozen=True, slots=True)
class Named:
    """An image that is in the store, to be recorded in its project."""

    image: Image
    names: tuple[str, ...] = ()
    """Aliases that point to it from then on, whatever they pointed to before."""


async def store_layer(intake: Intake, file: Path, diff_id: str, compression: str = "zstd") -> Layer:
    """Move a layer that ``VolumeDriver.pack_layer`` wrote to the store's ``scratch`` into the store."""
    stored = await intake.put_file(file, consume=True)
    return Layer(stored.digest, LAYER_KINDS[compression.removeprefix("none")], stored.size, diff_id)


async def compose(
    intake: Intake,
    config: OciConfig,
    layers: Sequence[Layer],
    now: datetime,
    *,
    annotations: Mapping[str, str] = _NOTHING,
    source: Mapping[str, str] = _NOTHING,
) -> Image:
    """Write configuration and manifest of an image; equal arguments give an equal one, whatever ``now`` is.

    The layers, bottom first, have diff ids, and are kept in the store by this ``intake`` or by a recorded image.
    ``config.diff_ids`` is replaced by theirs.
    """
    config = replace(config, diff_ids=tuple(layer.diff_id for layer in layers))
    stored = await intake.put_bytes(write_config(config), CONFIG_TYPE)
    descriptors = tuple(Descriptor(layer.media_type, layer.digest, layer.size) for layer in layers)
    manifest = Manifest(MANIFEST_TYPE, stored, descriptors, annotations=dict(annotations))
    at = await intake.put_bytes(manifest_document(manifest), MANIFEST_TYPE)
    return oci_image(at, manifest, config, now=now, source=source)
