"""Chooses the image of an index that runs on this host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isola.errors import Unsupported
from isola.images.descriptor import MANIFEST_TYPES, Descriptor
from isola.images.oci_manifest import Index

_ATTESTATION = "vnd.docker.reference.type"
"""Annotation of attestation manifests, which BuildKit adds to an index."""
_RUNS: Mapping[str, Sequence[tuple[str, str]]] = {
    "x86_64": (("amd64", ""), ("amd64", "v1"), ("386", "")),
    "i686": (("386", ""),),
    "aarch64": (("arm64", ""), ("arm64", "v8"), ("arm", "v7"), ("arm", ""), ("arm", "v6"), ("arm", "v5")),
    "armv7l": (("arm", "v7"), ("arm", ""), ("arm", "v6"), ("arm", "v5")),
    "ppc64le": (("ppc64le", ""),),
    "s390x": (("s390x", ""),),
    "riscv64": (("riscv64", ""),),
}
"""Kernel architecture -> OCI platforms that run on every machine of it, the best first.

``amd64/v2`` and above need a newer processor, and are never chosen.
"""


def choose(index: Index, architecture: str) -> Descriptor:
    """The manifest for a kernel architecture (``x86_64``). Raises Unsupported with the platforms on offer."""
    images = [each for each in index.manifests if _is_image(each)]
    if len(images) == 1 and not images[0].platform:
        return images[0]  # the platform is checked with its configuration
    for wanted in _RUNS.get(architecture, ()):
        for each in images:
            if each.platform.get("os", "linux") == "linux" and _platform(each) == wanted:
                return each
    offered = sorted({"/".join(filter(None, each.platform.values())) for each in images})[:20]
    raise Unsupported(
        f"The image is not available for {architecture}",
        evidence=f"it is available for {', '.join(offered) or 'no platform'}",
        remedy="use an image made for this architecture",
    )


def _is_image(each: Descriptor) -> bool:
    return each.media_type in MANIFEST_TYPES and _ATTESTATION not in each.annotations and not each.artifact_type


def _platform(each: Descriptor) -> tuple[str, str]:
    return each.platform.get("architecture", ""), each.platform.get("variant", "")
