"""Manifests, indexes, artifacts and their blobs, for tests of the registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OCI = "application/vnd.oci.image"
MANIFEST, INDEX = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json"
CONFIG, LAYER = f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
EMPTY = "application/vnd.oci.empty.v1+json"
EXAMPLE = "application/vnd.example.v1"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass(frozen=True)
class Content:
    """A manifest with everything that has to be pushed before it."""

    data: bytes
    media_type: str
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    manifests: Sequence[Content] = ()
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        return digest_of(self.data, self.algorithm)

    @property
    def described(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


def blob(data: bytes, media_type: str, algorithm: str = "sha256") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data, algorithm), "size": len(data)}


def layer(text: str) -> bytes:
    """A root with one file and a program, as a compressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in (("bin/app", b"#!/bin/sh\n"), ("etc/text", text.encode())):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def image(
    text: str = "one", *, architecture: str = "amd64", algorithm: str = "sha256", docker: bool = False, **more: object
) -> Content:
    """An image with one layer."""
    packed = layer(text)
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/app"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(gzip.decompress(packed))]},
        }
    ).encode()
    kind = DOCKER_MANIFEST if docker else MANIFEST
    types = (
        ("application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip")
        if docker
        else (CONFIG, LAYER)
    )
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": blob(config, types[0], algorithm),
        "layers": [blob(packed, types[1], algorithm)],
        **more,
    }
    blobs = {digest_of(data, algorithm): data for data in (config, packed)}
    return Content(json.dumps(document).encode(), kind, blobs, algorithm=algorithm)


def index(*images: Content, platforms: Sequence[str] = ("amd64", "arm64"), **more: object) -> Content:
    """An index of images, one for each platform."""
    entries = [
        each.described | {"platform": {"os": "linux", "architecture": name}}
        for each, name in zip(images, platforms, strict=False)
    ]
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, **more}
    algorithm = images[0].algorithm if images else "sha256"
    return Content(json.dumps(document).encode(), INDEX, manifests=images, algorithm=algorithm)


def artifact(text: str = "sbom", kind: str = EXAMPLE, subject: Content | None = None, **more: object) -> Content:
    """Something that is not an image, perhaps attached to one."""
    payload, empty = text.encode(), b"{}"
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": blob(empty, EMPTY),
        "layers": [blob(payload, "text/plain")],
        **more,
    }
    if subject is not None:
        document["subject"] = subject.described
    return Content(json.dumps(document).encode(), MANIFEST, {digest_of(data): data for data in (payload, empty)})


async def blocks(*parts: bytes) -> AsyncIterator[bytes]:
    """A body in pieces."""
    for part in parts:
        yield part
