"""What a name refers to in a registry, without pulling it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isola.errors import HostFailure
from isola.images.descriptor import CONFIG_TYPES, Descriptor, digest_of
from isola.images.hostile_json import MAX_DOCUMENT, Fields
from isola.images.oci_manifest import Index, Manifest
from isola.images.registry.blobs import RegistryBlob
from isola.images.registry.manifests import Fetched
from isola.images.registry.session import Session
from isola.model.image_reference import ImageReference

_PARTS = ("architecture", "os", "variant")


@dataclass(frozen=True, slots=True)
class Description:
    """A document, and the platforms of its images."""

    at: Descriptor
    platforms: tuple[Mapping[str, str], ...]


async def describe(session: Session, reference: ImageReference, found: Fetched) -> Description:
    """Of a manifest the platform is in its configuration, which is read. Raises the registry's errors."""
    if isinstance(found.document, Index):
        return Description(found.at, tuple(each.platform for each in found.document.manifests if each.platform))
    return Description(found.at, await _platform(session, reference, found.document))


async def _platform(session: Session, reference: ImageReference, manifest: Manifest) -> tuple[Mapping[str, str], ...]:
    if manifest.config.media_type not in CONFIG_TYPES:
        return ()
    data = bytearray()
    async with RegistryBlob(session, reference.path, manifest.config.digest).open(0) as stream:
        async for block in stream.blocks:
            data += block
            if len(data) > MAX_DOCUMENT:
                break
    if digest_of(bytes(data)) != manifest.config.digest:
        raise HostFailure("The configuration does not match its digest", remedy="try again")
    fields = Fields.parse(bytes(data), "configuration")
    return ({part: fields.text(part, longest=80) for part in _PARTS if part in fields},)
