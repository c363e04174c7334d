"""Chooses the image of an index that runs on this host."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from isola.errors import Unsupported
from isola.images.architecture import of_platform
from isola.images.descriptor import MANIFEST_TYPES, Descriptor
from isola.images.oci_manifest import Index

_ATTESTATION = "vnd.docker.reference.type"
"""Annotation of attestation manifests, which BuildKit adds to an index."""
_PLATFORM = re.compile(r"[a-z0-9_]{1,20}(?:/[a-z0-9_]{1,20}){0,2}", re.ASCII)
_SYNONYMS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}
_IMPLIED = (("arm64", "v8"), ("arm", "v7"), ("amd64", "v1"))
"""Variants that are meant where none is given."""
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


def parse_platform(text: str) -> tuple[str, str]:
    """Architecture and variant of ``linux/arm/v7``, ``arm64`` or ``linux``; empty if not given. Raises ValueError."""
    if not text:
        return "", ""
    system, *rest = text.split("/")
    if not _PLATFORM.fullmatch(text) or len(rest) > 2 or (rest and system != "linux"):
        raise ValueError("a platform such as linux/arm64 or linux/arm/v7 is expected")
    if not rest and system != "linux":
        rest = [system]
    architecture, variant = (*rest, "", "")[:2]
    return oci_name(architecture), variant


def oci_name(architecture: str) -> str:
    """``amd64`` for ``x86_64``, which some tools write into platforms."""
    return _SYNONYMS.get(architecture, architecture)


def choose(index: Index, architecture: str, platform: str = "") -> Descriptor:
    """The manifest for a kernel architecture (``x86_64``), or for a platform (``linux/arm64``) if one is given.

    Raises Unsupported with the platforms on offer.
    """
    images = [each for each in index.manifests if _is_image(each)]
    if len(images) == 1 and not images[0].platform:
        return images[0]  # the platform is checked with its configuration
    for wanted in _wanted(architecture, platform):
        for each in images:
            if each.platform.get("os", "linux") == "linux" and _platform(each) == wanted:
                return each
    offered = sorted({"/".join(filter(None, each.platform.values())) for each in images})[:20]
    raise Unsupported(
        f"The image is not available for {platform or architecture}",
        evidence=f"it is available for {', '.join(offered) or 'no platform'}",
        remedy="use an image made for this architecture",
    )


def check_platform(architecture: str, platform: str) -> None:
    """Raise Unsupported if an image for this kernel architecture is not one for the platform."""
    name, variant = parse_platform(platform)
    if name and of_platform(name, variant) != architecture:
        raise Unsupported(f"The image is not available for {platform}", evidence=f"it is for {architecture} only")


def _wanted(architecture: str, platform: str) -> Sequence[tuple[str, str]]:
    name, variant = parse_platform(platform) if platform else ("", "")
    if not name:
        return _RUNS.get(architecture, ())
    if variant:
        return ((name, variant), (name, "")) if (name, variant) in _IMPLIED else ((name, variant),)
    return ((name, ""), *(each for each in _IMPLIED if each[0] == name))


def _is_image(each: Descriptor) -> bool:
    return each.media_type in MANIFEST_TYPES and _ATTESTATION not in each.annotations and not each.artifact_type


def _platform(each: Descriptor) -> tuple[str, str]:
    return oci_name(each.platform.get("architecture", "")), each.platform.get("variant", "")
