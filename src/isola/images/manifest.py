"""OCI documents of an image: pure functions that write and read them.

An Isola image is an ordinary OCI image. The label ``org.isola.image.type`` of its configuration marks a whole system.
The files of LXD's export (their SHA-256 is the fingerprint) are listed in an OCI 1.1 *artifact manifest* whose
``subject`` is the image: tools that do not know it can run the image nevertheless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from isola.images.architecture import platform
from isola.images.descriptor import MANIFEST_TYPE, Descriptor
from isola.model.image import TYPE_LABEL, ImageConfig, Layer

ARTIFACT_TYPE = "application/vnd.isola.lxd.image.v1"
FINGERPRINT = "org.isola.image.fingerprint"
PART = "org.isola.image.part"
TITLE = "org.opencontainers.image.title"
REF_NAME = "org.opencontainers.image.ref.name"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of LXD's view: ``unified``, or ``metadata`` and ``rootfs``."""

    name: str
    title: str
    """``unified.tar.gz``, ``metadata.tar.xz``, ``rootfs.squashfs``: the name with the extension for its content."""
    digest: str
    size: int

    def file_name(self, fingerprint: str) -> str:
        """LXD's name for the file of an image."""
        ending = self.title.removeprefix(self.name)
        if self.name == "metadata":
            return f"meta-{fingerprint}{ending}"
        return f"{fingerprint}{ending}"


def image_config(
    config: ImageConfig,
    architecture: str,
    created: datetime,
    diff_ids: Sequence[str],
    *,
    labels: Mapping[str, str],
    made_by: str,
) -> bytes:
    """The OCI image configuration."""
    kind = "system" if config.system else "application"
    environment = {"PATH": _PATH} | dict(config.environment)
    settings: dict[str, object] = {
        "Env": [f"{key}={value}" for key, value in sorted(environment.items())],
        "Cmd": list(config.command),
        "WorkingDir": config.cwd,
        "StopSignal": config.stop_signal,
        "Labels": {**labels, TYPE_LABEL: config.labels.get(TYPE_LABEL) or kind},
    }
    if config.user not in ("", "0"):
        settings["User"] = config.user
    moment = created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _json(
        {
            "created": moment,
            **platform(architecture),
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [{"created": moment, "created_by": made_by} for _ in diff_ids],
        }
    )


def image_manifest(config: Descriptor, layers: Sequence[Layer], fingerprint: str) -> bytes:
    """The OCI image manifest. It has the fingerprint, because two exports of one content are two images to LXD."""
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.document(),
            "layers": [Descriptor(layer.media_type, layer.digest, layer.size).document() for layer in layers],
            "annotations": {FINGERPRINT: fingerprint},
        }
    )


def artifact_manifest(subject: Descriptor, empty: Descriptor, fingerprint: str, parts: Sequence[Part]) -> bytes:
    """The manifest of the files of LXD's view; ``empty``: the blob ``{}``."""
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": empty.document(),
            "layers": [
                Descriptor(
                    f"application/vnd.isola.lxd.{part.name}",
                    part.digest,
                    part.size,
                    {PART: part.name, TITLE: part.title},
                ).document()
                for part in parts
            ],
            "subject": subject.document(),
            "annotations": {FINGERPRINT: fingerprint},
        }
    )


def parts_of(artifact: bytes) -> tuple[Part, ...]:
    """The files of an artifact manifest, in the order in which the fingerprint covers them."""
    layers: list[dict[str, Any]] = orjson.loads(artifact)["layers"]
    return tuple(
        Part(layer["annotations"][PART], layer["annotations"][TITLE], layer["digest"], layer["size"])
        for layer in layers
    )


def _json(document: Mapping[str, object]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
