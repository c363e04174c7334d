"""Writes images as one tar stream with the layouts of both OCI and ``docker save``, as Docker 25 and later does.

Nothing is copied: the stream is made of the blobs in the store, which are kept until it ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import orjson

from isola.errors import InvalidInput
from isola.host import Host
from isola.images.architecture import platform
from isola.images.descriptor import INDEX_TYPE, Descriptor
from isola.images.layout_archive import END, blob, directories, document
from isola.images.layouts import blob_path
from isola.images.oci_manifest import Manifest, read_document
from isola.images.store import LAYOUT, ContentStore
from isola.model import image_reference
from isola.model.image import Image

_CONTAINERD_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"


async def save(host: Host, store: ContentStore, images: Sequence[tuple[Image, Sequence[str]]]) -> AsyncIterator[bytes]:
    """The archive of these images with their names, piece by piece; equal arguments give an equal archive.

    Raises NotFound, InvalidInput before the first piece.
    """
    manifests = [(image, names, await _manifest(store, image)) for image, names in images]
    blobs: dict[str, int] = {}
    for image, _, (size, manifest) in manifests:
        blobs |= {image.manifest: size} | {each.digest: each.size for each in (manifest.config, *manifest.layers)}
    with store.holding(blobs):  # the image may be deleted while a slow client reads
        for digest, size in blobs.items():
            if not await store.has(digest):
                raise InvalidInput("The image is incomplete", evidence=f"the content store has no {digest}")
            if size != await host.files.size(store.path(digest)):
                raise InvalidInput("The image is damaged", evidence=f"the size of {digest} is wrong")
        yield directories()
        for digest, size in blobs.items():
            async for piece in blob(store, digest, size):
                yield piece
        documents = {
            "index.json": _index(manifests),
            "manifest.json": _docker(manifests),
            "oci-layout": LAYOUT,
            "repositories": _repositories(manifests),
        }
        for name, data in documents.items():
            yield document(name, data)
        yield END


_Manifests = Sequence[tuple[Image, Sequence[str], tuple[int, Manifest]]]


async def _manifest(store: ContentStore, image: Image) -> tuple[int, Manifest]:
    data = await store.read(image.manifest)
    manifest = read_document(data)
    if not isinstance(manifest, Manifest):
        raise InvalidInput(f"The manifest of image {image.fingerprint[:12]} is not that of an image")
    return len(data), manifest


def _index(manifests: _Manifests) -> bytes:
    entries = []
    for image, names, (size, manifest) in manifests:
        for named in [_annotations(name) for name in names] or [{}]:
            at = Descriptor(manifest.media_type, image.manifest, size, named, platform(image.architecture))
            entries.append(at.document())
    return orjson.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries})


def _annotations(name: str) -> dict[str, str]:
    found = image_reference.parse_full(name)
    if found is None or not found.tag:
        return {_REF_NAME: name}
    return {_CONTAINERD_NAME: found.full, _REF_NAME: found.tag}


def _docker(manifests: _Manifests) -> bytes:
    return orjson.dumps(
        [
            {
                "Config": blob_path(manifest.config.digest),
                "RepoTags": [_familiar(name) for name in names] or None,
                "Layers": [blob_path(layer.digest) for layer in manifest.layers],
            }
            for _, names, (_, manifest) in manifests
        ]
    )


def _repositories(manifests: _Manifests) -> bytes:
    """The top layer of each tag, for tools that know no manifest.json."""
    found: dict[str, dict[str, str]] = {}
    for _, names, (_, manifest) in manifests:
        for name in names if manifest.layers else ():
            repository, _, tag = _familiar(name).rpartition(":")
            found.setdefault(repository, {})[tag] = manifest.layers[-1].digest.removeprefix("sha256:")
    return orjson.dumps(found)


def _familiar(name: str) -> str:
    found = image_reference.parse_full(name)
    return found.tagged().familiar if found is not None else name if ":" in name else f"{name}:latest"
