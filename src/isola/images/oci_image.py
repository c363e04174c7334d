"""The record of an image from OCI documents, whose blobs are in the store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from isola.errors import InvalidInput, Unsupported
from isola.images.descriptor import LAYER_TYPES, Descriptor, is_sha256
from isola.images.oci_config import OciConfig
from isola.images.oci_manifest import Manifest, check_image
from isola.images.vm_layers import type_of_layers
from isola.model.image import Image, Layer
from isola.model.isolation import VIRTUAL_MACHINE
from isola.model.kernel import is_unikernel

_PROPERTIES = {
    "org.opencontainers.image.description": "description",
    "org.opencontainers.image.version": "version",
    "org.opencontainers.image.title": "os",
    **{f"org.isola.image.{name}": name for name in ("os", "release", "variant", "serial")},
}
_NONE: Mapping[str, str] = {}


def oci_image(
    at: Descriptor,
    manifest: Manifest,
    config: OciConfig,
    *,
    now: datetime,
    index: str = "",
    source: Mapping[str, str] = _NONE,
) -> Image:
    """The image with the manifest ``at``, chosen from the blob ``index`` if there is one.

    The manifest's digest is its fingerprint for LXD's clients. Raises InvalidInput, Unsupported.
    """
    check_image(manifest)
    if not is_sha256(at.digest):
        raise Unsupported("The image is known by a digest other than SHA-256", remedy="name it by its SHA-256 digest")
    if len(manifest.layers) != len(config.diff_ids):
        raise InvalidInput(
            "The image's manifest and its configuration disagree on the number of layers",
            evidence=f"{len(manifest.layers)} and {len(config.diff_ids)}",
            field="rootfs.diff_ids",
        )
    layers = tuple(
        Layer(layer.digest, LAYER_TYPES[layer.media_type], layer.size, diff_id)
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    labels = {**config.run.labels, **manifest.annotations}
    return Image(
        fingerprint=at.digest.removeprefix("sha256:"),
        manifest=at.digest,
        index=index,
        size=at.size + manifest.config.size + sum(layer.size for layer in layers),
        architecture=config.architecture,
        created_at=config.created_at,
        uploaded_at=now,
        layers=layers,
        config=config.run,
        properties={key: labels[label] for label, key in _PROPERTIES.items() if labels.get(label)},
        source=dict(source),
        type=VIRTUAL_MACHINE if is_unikernel(config.run.labels) else type_of_layers(layers),
    )
