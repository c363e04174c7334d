"""Results of instructions out of caches that a build names: looked for when the daemon's own cache has none.

They are not put into that: a user who names a cache trusts it for one build, and not for those of other projects.
Layers are checked like those of any image: by their digest when they arrive, by their diff id when they are unpacked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from isola.builds.bases import find_image
from isola.builds.cache_document import ANNOTATION, CACHE_TYPE, read
from isola.builds.parts import Job
from isola.errors import InvalidInput, IsolaError, NotFound
from isola.host import Host
from isola.images.descriptor import Descriptor, algorithm_of, digest_of
from isola.images.hostile_json import MAX_DOCUMENT
from isola.images.layouts import blob_path
from isola.images.oci_manifest import Index, Manifest, read_document
from isola.images.platforms import choose
from isola.images.remote import BlobSource, Stream
from isola.images.store import Intake
from isola.model.build import BuildEvent, BuildEventKind, BuildResult
from isola.model.build_cache import CacheImport, CacheType
from isola.model.image import Layer
from isola.model.image_reference import parse

Blobs = Callable[[Descriptor], BlobSource]


@dataclass(frozen=True, slots=True)
class _Cache:
    results: Mapping[str, BuildResult]
    blobs: Blobs


class CacheImports:
    """Of one build. What cannot be read is reported, and counts as empty.

    ``intake`` is none of an image: what no record needs at its end, the next sweep removes.
    """

    def __init__(self, job: Job, intake: Intake) -> None:
        self._job = job
        self._intake = intake
        self._opening = asyncio.Lock()
        self._caches: list[_Cache] | None = None

    async def find(self, key: str) -> BuildResult | None:
        """With its layer in the store, held by the build."""
        for cache in await self._opened():
            if (found := cache.results.get(key)) is None:
                continue
            try:
                if found.layer is not None:
                    await self._fetch(found.layer, cache.blobs)
            except IsolaError as error:
                self._warn(f"A layer of the imported cache cannot be used: {error}")
                continue
            return found
        return None

    async def _fetch(self, layer: Layer, blobs: Blobs) -> None:
        """The size of a blob that was there already is checked too: it goes into the manifest of the image."""
        at = Descriptor(layer.media_type, layer.digest, layer.size)
        await self._intake.fetch(at, blobs(at))
        store = self._job.parts.context.images.store
        if (size := await store.host.files.size(store.path(layer.digest))) != layer.size:
            raise InvalidInput("A layer has another size than the cache says", evidence=f"{size}, not {layer.size}")

    async def _opened(self) -> list[_Cache]:
        async with self._opening:
            if self._caches is None:
                found = [await self._cache(each) for each in self._job.request.imports]
                self._caches = [each for each in found if each is not None]
            return self._caches

    async def _cache(self, wanted: CacheImport) -> _Cache | None:
        try:
            if wanted.type is CacheType.REGISTRY:
                return await self._of_registry(wanted.name)
            if wanted.type is CacheType.LOCAL:
                return await self._of_directory(self._job.place / wanted.name)
            return await self._of_image(wanted.name)
        except IsolaError as error:
            self._warn(f"The cache {wanted.name[:200]} is not imported: {error}")
            return None

    async def _of_registry(self, name: str) -> _Cache:
        reference = parse(name).tagged()
        registries = self._job.parts.context.images.registries
        remote = await registries.open(reference, self._job.credentials(reference.domain))
        document = remote.found.document
        if isinstance(document, Index):
            chosen = choose(document, *self._platform)
            document = (await remote.at(chosen.digest)).document
        if not isinstance(document, Manifest):
            raise InvalidInput("The name leads to an index of indexes", field="cache_from")
        return await self._read(document, lambda at: remote.blob(at.digest))

    async def _of_directory(self, place: Path) -> _Cache:
        host = self._job.parts.context.host

        async def small(path: str) -> bytes:
            data = bytearray()
            async with host.files.root(place) as root:
                async for block in await root.read(path):
                    data += block
                    if len(data) > MAX_DOCUMENT:
                        break
            return bytes(data)

        index = read_document(await small("/index.json"))
        if not isinstance(index, Index) or not index.manifests:
            raise InvalidInput("The directory is no OCI image layout with one manifest", field="cache_from")
        at = index.manifests[0].digest
        data = await small("/" + blob_path(at))
        if digest_of(data, algorithm_of(at)) != at:
            raise InvalidInput("The manifest does not match its digest", field="cache_from")
        manifest = read_document(data)
        if not isinstance(manifest, Manifest):
            raise InvalidInput("The directory is no cache of builds", field="cache_from")
        return await self._read(manifest, lambda at: _FileBlob(host, place, at))

    async def _of_image(self, name: str) -> _Cache:
        image = find_image(self._job, name)
        if image is None:
            raise NotFound(f"There is no image {name[:80]}")
        document = read_document(await self._job.parts.context.images.store.read(image.manifest))
        if not isinstance(document, Manifest):
            raise InvalidInput("The image has no manifest", field="cache_from")
        return await self._read(document, _missing)

    async def _read(self, manifest: Manifest, blobs: Blobs) -> _Cache:
        """Of an artifact of its own, or of an image that has the results of its layers."""
        if manifest.config.media_type == CACHE_TYPE:
            if manifest.config.size > MAX_DOCUMENT:
                raise InvalidInput("The cache is too large", field="cache_from")
            await self._intake.fetch(manifest.config, blobs(manifest.config))
            data = await self._intake.read(manifest.config.digest)
        elif (text := manifest.annotations.get(ANNOTATION)) is not None:
            data = text.encode()
        else:
            raise NotFound("It has no results of this builder", remedy="name one to which a build exported its cache")
        return _Cache(await asyncio.to_thread(read, data, manifest.layers), blobs)

    @property
    def _platform(self) -> tuple[str, str]:
        plan = self._job.plan
        platform = plan.stages[plan.target].platform
        return platform.kernel, str(platform)

    def _warn(self, text: str) -> None:
        self._job.tell(BuildEvent(BuildEventKind.WARNING, 0, f"[Warning] {text}"))


class _FileBlob:
    """Of a directory that the client has sent: links in it lead nowhere."""

    def __init__(self, host: Host, place: Path, at: Descriptor) -> None:
        self._host = host
        self._place = place
        self._at = at

    @asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[Stream]:
        async with self._host.files.root(self._place) as root:
            path = "/" + blob_path(self._at.digest)
            if (size := (await root.stat(path)).size) != self._at.size:  # another attempt would not find more
                raise InvalidInput("A file of the cache is incomplete", evidence=f"{size} bytes, not {self._at.size}")
            yield Stream(0, await root.read(path))


class _Missing:
    """Layers of a local image are in the store, or lost."""

    @asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[Stream]:
        raise NotFound("The content store has lost the layer")
        yield


def _missing(at: Descriptor) -> BlobSource:
    return _Missing()
