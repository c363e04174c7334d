"""OCI content descriptors, and the media types of manifests, configurations and layers (OCI and Docker v2 schema 2)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from isola.errors import InvalidInput

SHA256 = "sha256"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
DISK_TYPE = "application/vnd.isola.disk.v1.qcow2"
"""The disk of an image for virtual machines, as its only layer; its diff id is its digest."""
DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"

INDEX_TYPES = frozenset({INDEX_TYPE, DOCKER_INDEX_TYPE})
MANIFEST_TYPES = frozenset({MANIFEST_TYPE, DOCKER_MANIFEST_TYPE})
CONFIG_TYPES = frozenset({CONFIG_TYPE, DOCKER_CONFIG_TYPE})
LAYER_TYPES: Mapping[str, str] = {
    LAYER_TYPE: LAYER_TYPE,
    f"{LAYER_TYPE}+gzip": f"{LAYER_TYPE}+gzip",
    f"{LAYER_TYPE}+zstd": f"{LAYER_TYPE}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar": LAYER_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER_TYPE}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{LAYER_TYPE}+zstd",
    DISK_TYPE: DISK_TYPE,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": LAYER_TYPE,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": f"{LAYER_TYPE}+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": f"{LAYER_TYPE}+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": f"{LAYER_TYPE}+gzip",
}
"""Media types of layers that can be unpacked -> OCI's name. With foreign, without encrypted ones."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob in other documents."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    def document(self) -> dict[str, object]:
        """Its JSON representation."""
        document: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.platform:
            document["platform"] = dict(self.platform)
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


def is_digest(text: str) -> bool:
    """Whether it has the form ``sha256:<hex>`` or ``sha512:<hex>`` and so is safe in a path."""
    return _DIGEST.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """Whether it is a digest of the algorithm that images and their layers are known by."""
    return is_digest(text) and algorithm_of(text) == SHA256


def algorithm_of(digest: str) -> str:
    """``sha256`` or ``sha512``."""
    return digest.partition(":")[0]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of a small document."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def check_digest(digest: str) -> str:
    """The digest, if ``is_digest``. Raises InvalidInput."""
    if not is_digest(digest):
        raise InvalidInput(
            f"Invalid digest {digest[:80]!r}",
            field="digest",
            remedy="sha256:<64 hex digits> or sha512:<128 hex digits> is expected",
        )
    return digest
