"""Index of the store in memory: the blobs of each image, and the files of its export."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isola.errors import InvalidInput, NotFound
from isola.images.architecture import platform
from isola.images.closure import closure, parts_named
from isola.images.descriptor import MANIFEST_TYPE, Descriptor
from isola.images.manifest import ARTIFACT_TYPE, FINGERPRINT, REF_NAME, Part, parts_of
from isola.images.store import ContentStore
from isola.images.vm_layers import type_of_layers
from isola.model.image import TYPE_LABEL, Alias, Image
from isola.model.isolation import VIRTUAL_MACHINE
from isola.model.kernel import UNIKERNEL, is_unikernel
from isola.model.reference import DEFAULT_PROJECT, Ref
from isola.state import Scoped

_SHORTEST_PREFIX = 4
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Holding:
    blobs: frozenset[str]
    parts: tuple[Part, ...]
    manifest_size: int = 0
    artifact_size: int = 0
    own: frozenset[str] = frozenset()
    """Those that came with the image itself, and not all that its documents name: anyone can name a digest.

    Without its index, which is another one in each project.
    """


class Catalogue:
    """Finds images and the blobs they need."""

    def __init__(self, records: Scoped[Image], store: ContentStore) -> None:
        self._records = records
        self._store = store
        self._holdings: dict[str, _Holding] = {}
        self._keys: dict[Ref, Ref] = {}
        """Cache: project and fingerprint -> key of the record."""

    async def load(self) -> None:
        """Read the manifests of all images."""
        for image in self._records:
            await self.learn(image)

    async def learn(self, image: Image) -> None:
        """Read the manifests of one image; damage is logged, and the image stays with its readable parts."""
        try:
            manifest = await self._store.read(image.manifest)
            artifact = await self._store.read(image.artifact) if image.artifact else b""
        except NotFound as error:
            log.error("Image %s is incomplete: %s", image.fingerprint[:12], error)
            return
        roots = filter(None, (image.index, image.manifest, image.artifact))
        blobs = _named(image) | await closure(self._store.read, roots)
        parts = parts_of(artifact) if artifact else ()
        own = (_named(image) - {image.index}).union(*[await parts_named(each) for each in (manifest, artifact)])
        self._holdings[image.fingerprint] = _Holding(blobs, parts, len(manifest), len(artifact), own)

    async def learn_missing(self) -> None:
        """Read the manifests of images that another process has recorded since."""
        for image in list(self._records):
            if image.fingerprint not in self._holdings:
                await self.learn(image)

    async def rekey(self) -> None:
        """Records of Isola 0.1 have fingerprints as keys: change those to the manifests' digests.

        A record that shares its manifest with another keeps its key: in 0.1 different exports could share a manifest.
        """
        for image in list(self._records):
            wanted = image.ref.renamed(image.manifest)
            if self.key(image) != wanted and wanted not in self._records:
                held = self._records.read(image.ref)
                await self._records.rename(image.ref, wanted, held.value, at=held.revision)

    def key(self, image: Image) -> Ref:
        """The key of an image's record."""
        by_manifest = image.ref.renamed(image.manifest)
        own = self._records.find(by_manifest)
        if own is not None and own.fingerprint != image.fingerprint:
            return image.ref
        return by_manifest if own is not None or image.ref not in self._records else image.ref

    def forget(self, fingerprint: str) -> None:
        """Drop a deleted image, unless another project still has it."""
        if not self.holds(fingerprint):
            self._holdings.pop(fingerprint, None)

    def holds(self, fingerprint: str) -> bool:
        """Whether any project has this image."""
        return any(image.fingerprint == fingerprint for image in self._records)

    def with_properties(self, project: str, properties: Mapping[str, str]) -> Image:
        """The newest of a project's own images with all of these properties. Raises NotFound."""
        found = [
            image
            for image in self._records
            if image.project == project and properties.items() <= dict(image.properties).items()
        ]
        if not found:
            raise NotFound("No image has these properties")
        return max(found, key=lambda image: image.created_at)

    def blobs(self) -> set[str]:
        """The blobs of all recorded images."""
        return {blob for image in self._records for blob in self._held(image).blobs}

    def owns(self, project: str, digest: str) -> bool:
        """Whether a blob came with an image of a project, or with a public one."""
        return any(self.is_of(image, digest) for image in self._records if image.project == project or image.public)

    def pulled_with(self, project: str, index: str, digest: str) -> bool:
        """Whether a blob came with an image that a project has out of an index."""
        return any(
            self.is_of(image, digest) for image in self._records if image.index == index and image.project == project
        )

    def is_of(self, image: Image, digest: str) -> bool:
        """Whether a blob came with an image."""
        return digest in self._held(image).own or (digest != "" and digest == image.index)

    def blobs_of(self, image: Image) -> frozenset[str]:
        return self._held(image).blobs

    def manifest_size(self, image: Image) -> int:
        """Bytes of its manifest; 0 if that cannot be read."""
        return self._held(image).manifest_size

    def parts(self, image: Image) -> tuple[Part, ...]:
        """The files of LXD's view of an image."""
        return self._held(image).parts

    def get(self, ref: Ref) -> Image:
        """By fingerprint or a prefix of it. Raises NotFound, InvalidInput for an ambiguous prefix."""
        image = self.find(ref)
        if image is None:
            raise NotFound(f"Image {ref.quoted} not found")
        return image

    def find(self, ref: Ref) -> Image | None:
        """The same, with None for an unknown one."""
        if (exact := self._exactly(ref)) is not None:
            return exact
        if len(ref.name) < _SHORTEST_PREFIX:
            return None
        found = [i for i in self._records if i.project == ref.project and i.fingerprint.startswith(ref.name)]
        if len(found) > 1:
            raise InvalidInput(
                f"{len(found)} images have a fingerprint that begins with {ref.name}",
                field="fingerprint",
                remedy="use a longer prefix",
            )
        return found[0] if found else None

    def same(self, image: Image) -> Image | None:
        """The record of this image in its project, also if it was built here and has another fingerprint."""
        return self._exactly(image.ref) or self._records.find(image.ref.renamed(image.manifest))

    def _exactly(self, ref: Ref) -> Image | None:
        """By a cached key if the record still exists, since only the records are authoritative."""
        held = self._records.find(self._keys.get(ref, ref))
        if held is None or held.ref != ref:
            held = next((image for image in self._records if image.ref == ref), None)
            self._keys.pop(ref, None)
            if held is not None:
                self._keys[ref] = self.key(held)
        return held

    def index(self, aliases: Iterable[Alias]) -> list[Descriptor]:
        """``index.json``: every image under each of its aliases, and the artifacts.

        An alias of another project than the default one is written ``alias@project``.
        """
        names: dict[str, list[str]] = {}
        for alias in aliases:
            named = alias.name if alias.project == DEFAULT_PROJECT else f"{alias.name}@{alias.project}"
            names.setdefault(alias.target, []).append(named)
        entries: list[Descriptor] = []
        for image in {image.fingerprint: image for image in self._records}.values():
            entries += self._entries(image, names.get(image.fingerprint, []))
        return entries

    def _held(self, image: Image) -> _Holding:
        """The cached entry, or one from the record alone if the manifests are unreadable."""
        return self._holdings.get(image.fingerprint) or _Holding(_named(image), (), own=_named(image))

    def _entries(self, image: Image, names: list[str]) -> list[Descriptor]:
        held = self._held(image)
        about: Mapping[str, str] = {
            FINGERPRINT: image.fingerprint,
            TYPE_LABEL: _kind(image),
        }
        entries = [
            Descriptor(
                MANIFEST_TYPE, image.manifest, held.manifest_size, {**about, **named}, platform(image.architecture)
            )
            for named in ([{REF_NAME: name} for name in names] or [{}])
        ]
        if image.artifact:
            size, kind = held.artifact_size, ARTIFACT_TYPE
            entries.append(Descriptor(MANIFEST_TYPE, image.artifact, size, dict(about), artifact_type=kind))
        return entries


def _kind(image: Image) -> str:
    if is_unikernel(image.config.labels):
        return UNIKERNEL
    if type_of_layers(image.layers) == VIRTUAL_MACHINE:
        return "vm"
    return "system" if image.config.system else "application"


def _named(image: Image) -> frozenset[str]:
    return frozenset({image.index, image.manifest, image.artifact, *(layer.digest for layer in image.layers)} - {""})
