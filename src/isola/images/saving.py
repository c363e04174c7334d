"""Writes images as one tar stream with the layouts of both OCI and ``docker save``, as Docker 25 and later does.

Nothing is copied: the stream is made of the blobs in the store, which are kept until it ends.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import orjson

from isola.errors import InvalidInput
from isola.host import Host
from isola.images.architecture import platform
from isola.images.descriptor import INDEX_TYPE, Descriptor
from isola.images.oci_manifest import Manifest, read_document
from isola.images.store import ContentStore
from isola.model import image_reference
from isola.model.image import Image

_CONTAINERD_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_END = bytes(2 * tarfile.BLOCKSIZE)


async def save(host: Host, store: ContentStore, images: Sequence[tuple[Image, Sequence[str]]]) -> AsyncIterator[bytes]:
    """The archive of these images with their names, piece by piece; equal arguments give an equal archive.

    Raises NotFound, InvalidInput before the first piece.
    """
    manifests = [(image, names, await _manifest(store, image)) for image, names in images]
    blobs: dict[str, int] = {}
    for image, _, (size, manifest) in manifests:
        blobs |= {image.manifest: size} | {each.digest: each.size for each in (manifest.config, *manifest.layers)}
    with _held(store, blobs):
        for digest, size in blobs.items():
            if not await store.has(digest):
                raise InvalidInput("The image is incomplete", evidence=f"the content store has no {digest}")
            if size != await host.files.size(store.path(digest)):
                raise InvalidInput("The image is damaged", evidence=f"the size of {digest} is wrong")
        yield _directory("blobs/") + _directory("blobs/sha256/")
        for digest, size in blobs.items():
            yield _header(f"blobs/{digest.replace(':', '/')}", size)
            async for piece in host.files.blocks(store.path(digest)):
                yield piece
            yield bytes(-size % tarfile.BLOCKSIZE)
        documents = {
            "index.json": _index(manifests),
            "manifest.json": _docker(manifests),
            "oci-layout": _LAYOUT,
            "repositories": _repositories(manifests),
        }
        for name, data in documents.items():
            yield _header(name, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
        yield _END


_Manifests = Sequence[tuple[Image, Sequence[str], tuple[int, Manifest]]]


async def _manifest(store: ContentStore, image: Image) -> tuple[int, Manifest]:
    data = await store.read(image.manifest)
    document = read_document(data)
    if not isinstance(document, Manifest):
        raise InvalidInput(f"The manifest of image {image.fingerprint[:12]} is not that of an image")
    return len(data), document


@contextmanager
def _held(store: ContentStore, blobs: Mapping[str, int]) -> Iterator[None]:
    """The image may be deleted while a slow client reads."""
    for digest in blobs:
        store.hold(digest)
    try:
        yield
    finally:
        store.release(blobs)


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
                "Config": _path(manifest.config.digest),
                "RepoTags": [_familiar(name) for name in names] or None,
                "Layers": [_path(layer.digest) for layer in manifest.layers],
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


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def _directory(name: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info.tobuf(tarfile.PAX_FORMAT)
