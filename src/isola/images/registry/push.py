"""Pushing an image: its blobs, then its manifest; an index only if all of its images are here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from isola.errors import NotFound
from isola.images.descriptor import Descriptor
from isola.images.oci_manifest import Index, Manifest, read_document
from isola.images.ownership import Owned, anything
from isola.images.registry.manifests import put
from isola.images.registry.parallel import all_of
from isola.images.registry.progress import LayerEvent, LayerState
from isola.images.registry.upload import Target
from isola.images.store import ContentStore
from isola.model.image import Image
from isola.model.image_reference import ImageReference
from isola.operations import Operation

_AT_ONCE = 4
_MOST_IMAGES = 64
"""Of one index."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index in the store."""

    at: Descriptor
    data: bytes
    content: Manifest | Index


@dataclass(frozen=True, slots=True)
class Content:
    """What a push transfers: the blobs, the images of an index, and the document that gets the name."""

    blobs: tuple[Descriptor, ...]
    children: tuple[Document, ...]
    top: Document
    configs: frozenset[str]
    """Digests of those blobs that are configurations."""
    left_out: str = ""
    """The digest of the index that is not sent, because only some of its images are here."""

    @property
    def digests(self) -> frozenset[str]:
        """All that has to stay in the store meanwhile."""
        documents = (*self.children, self.top)
        return frozenset({*(blob.digest for blob in self.blobs), *(each.at.digest for each in documents)})


async def content_of(store: ContentStore, image: Image, owned: Owned = anything) -> Content:
    """Of an index only what is ``owned`` counts as here. Raises NotFound if the store lacks a blob of the image."""
    own = await _document(store, image.manifest)
    whole = await _whole_index(store, image.index, owned) if image.index else None
    if whole is not None:
        return whole
    missing = [each for each in await _missing(store, own, anything)]
    if missing:
        raise NotFound(
            f"Image {image.fingerprint[:12]} is incomplete",
            evidence=f"the store does not have {missing[0]}",
            remedy="import or pull it again",
        )
    return Content(_blobs(own), (), own, _configs([own]), image.index)


async def push_content(
    op: Operation, target: Target, reference: ImageReference, content: Content, sources: Mapping[str, Sequence[str]]
) -> str:
    """``sources``: for digests, repositories of the same registry that may have them. Returns the digest."""
    slots = asyncio.Semaphore(_AT_ONCE)
    with op.step(f"Push {reference.familiar}") as outer:

        async def send(blob: Descriptor) -> None:
            async with slots:
                with op.step(f"Upload {blob.digest[7:19]}", total=blob.size, unit="bytes") as step:
                    step.depth = outer.depth + 1  # beside the others, not inside them
                    await target.send(blob, sources.get(blob.digest, ()), step.advance)
                    step.reach(blob.size)

        for blob in content.blobs:
            target.watch(LayerEvent(blob.digest, LayerState.WAITING, 0, blob.size))
        await op.effect("send blobs", lambda: all_of(send(blob) for blob in content.blobs))
        for child in content.children:
            await op.effect("send manifest", partial(_put, target, reference.at(digest=child.at.digest), child))
        return await op.effect("send name", partial(_put, target, reference, content.top))


async def _put(target: Target, reference: ImageReference, document: Document) -> str:
    return await put(target.session, reference, document.data, document.content.media_type)


async def _document(store: ContentStore, digest: str) -> Document:
    data = await store.read(digest)
    content = read_document(data)
    return Document(Descriptor(content.media_type, digest, len(data)), data, content)


async def _whole_index(store: ContentStore, digest: str, owned: Owned) -> Content | None:
    """The index with all of its images, None if some are not here."""
    if not await store.has(digest):
        return None
    top = await _document(store, digest)
    if not isinstance(top.content, Index) or len(top.content.manifests) > _MOST_IMAGES:
        return None
    if not all([owned(each.digest) and await store.has(each.digest) for each in top.content.manifests]):
        return None
    children = tuple([await _document(store, each.digest) for each in top.content.manifests])
    if any([await _missing(store, child, owned) for child in children]):
        return None
    blobs = {blob.digest: blob for child in children for blob in _blobs(child)}
    return Content(tuple(blobs.values()), children, top, _configs(children))


async def _missing(store: ContentStore, document: Document, owned: Owned) -> list[str]:
    if not isinstance(document.content, Manifest):
        return [document.at.digest]
    return [each.digest for each in _blobs(document) if not (owned(each.digest) and await store.has(each.digest))]


def _configs(documents: Sequence[Document]) -> frozenset[str]:
    return frozenset(each.content.config.digest for each in documents if isinstance(each.content, Manifest))


def _blobs(document: Document) -> tuple[Descriptor, ...]:
    """Layers first, as users expect them to be shown."""
    if not isinstance(document.content, Manifest):
        return ()
    found = (*document.content.layers, document.content.config)
    return tuple({blob.digest: blob for blob in found}.values())
