"""Manifests and indexes of a registry: fetched, verified, put."""

from __future__ import annotations

from dataclasses import dataclass

from isola.errors import InvalidInput
from isola.images.descriptor import (
    DOCKER_INDEX_TYPE,
    DOCKER_MANIFEST_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    digest_of,
)
from isola.images.hostile_json import MAX_DOCUMENT
from isola.images.oci_manifest import Index, Manifest, read_document
from isola.images.registry.failures import failure
from isola.images.registry.session import Session, pull_scope, push_scope
from isola.model.image_reference import ImageReference

_ACCEPT = ", ".join([INDEX_TYPE, MANIFEST_TYPE, DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE])


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document as the registry sent it."""

    at: Descriptor
    data: bytes
    document: Manifest | Index


async def fetch(session: Session, reference: ImageReference) -> Fetched:
    """The document with the reference's digest or tag. Raises NotFound, Forbidden, InvalidInput, HostFailure."""
    wanted = reference.digest or reference.tagged().tag
    path = f"{reference.path}/manifests/{wanted}"
    what = f"{reference.familiar}"
    async with session.request("GET", path, pull_scope(reference.path), headers={"Accept": _ACCEPT}) as response:
        if response.status != 200:
            raise await failure(response, what)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        announced = response.headers.get("docker-content-digest", "")
        data = await response.read(MAX_DOCUMENT)
    digest = digest_of(data)
    expected = reference.digest or (announced if announced.startswith("sha256:") else digest)
    if digest != expected:
        raise InvalidInput(
            "The manifest does not match its digest",
            evidence=f"{digest}, expected {expected}",
            field="digest",
            remedy="it was damaged in transfer or at the registry: try again, or use another registry",
        )
    kind = kind if kind not in ("application/json", "text/plain") else ""
    document = read_document(data, kind, versioned=True)
    return Fetched(Descriptor(document.media_type, digest, len(data)), data, document)


async def put(session: Session, reference: ImageReference, data: bytes, media_type: str) -> str:
    """Upload a document under the reference's tag or digest; returns its digest. Raises the errors of ``failure``."""
    digest = digest_of(data)
    path = f"{reference.path}/manifests/{reference.tag or digest}"
    headers = {"Content-Type": media_type}
    async with session.request("PUT", path, push_scope(reference.path), headers=headers, body=data) as response:
        if response.status not in (200, 201, 202):
            raise await failure(response, f"the manifest of {reference.familiar}")
        stored = response.headers.get("docker-content-digest", digest)
    if stored != digest:
        raise InvalidInput("The registry stored another manifest than was sent", evidence=f"{stored}, sent {digest}")
    return digest
