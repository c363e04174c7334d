"""Reading repositories: what was pushed, together with images that have come into the store in other ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from isola.errors import InvalidInput, NotFound, Unsupported
from isola.images.closure import parsed
from isola.images.descriptor import MANIFEST_TYPES, Descriptor, check_digest
from isola.images.hostile_json import MAX_DOCUMENT
from isola.images.library import ImageLibrary
from isola.images.oci_manifest import Index, Manifest
from isola.images.platforms import choose
from isola.images.repositories.records import RepositoryRecords
from isola.model.image import Image
from isola.model.reference import Ref
from isola.model.repository import alias_names, by_tag, is_tag, reachable, split_alias, synonyms

_PAGE = MAX_DOCUMENT
"""Bytes of manifests in a page of referrers."""


def tag_order(tag: str) -> tuple[str, str]:
    """A sort key: the specification wants alphanumeric order without regard to case."""
    return tag.lower(), tag


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest or index as it was pushed."""

    digest: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob and its file."""

    digest: str
    size: int
    path: Path


@dataclass(frozen=True, slots=True)
class Referrers:
    """Manifests that are attached to another one; ``last`` is where the next page begins, empty at the end."""

    manifests: tuple[Descriptor, ...] = field(default_factory=tuple)
    last: str = ""


@dataclass(frozen=True, slots=True)
class TaggedManifest:
    """A tag with its manifest, or a manifest without a tag, for lists."""

    tag: str
    digest: str
    media_type: str = ""
    artifact_type: str = ""
    size: int = 0
    """Bytes of the manifest and of what it names."""
    image: str = ""
    """Fingerprint of the image that runs here."""
    pushed_at: datetime | None = None


class Views:
    """Look-ups for one request. With ``public`` nothing is found but public images."""

    def __init__(self, records: RepositoryRecords, library: ImageLibrary, architecture: str) -> None:
        self._records = records
        self._library = library
        self._architecture = architecture

    def digest_of(self, repository: Ref, reference: str, *, public: bool = False) -> str:
        """The digest that a tag or digest names. Raises NotFound, InvalidInput."""
        if ":" in reference:
            digest = check_digest(reference)
            if any(self._has_manifest(each, digest, public) for each in synonyms(repository)):
                return digest
        else:
            for each in synonyms(repository) if is_tag(reference) else ():
                if found := self.tagged(each, reference, public=public):
                    return found
        raise NotFound("manifest unknown", field="manifest")

    def tagged(self, repository: Ref, tag: str, *, public: bool = False) -> str:
        """The digest of a tag of exactly this repository; empty without one.

        An alias decides about the tag of the same name, since aliases can be changed in other ways too.
        """
        image = self.image(repository, tag)
        record = self._records.tags.find(by_tag(repository, tag))
        if image is None:
            return record.digest if record is not None and not record.image and not public else ""
        if public and not image.public:
            return ""
        if record is not None and record.image == image.fingerprint:
            return record.digest
        return image.index or image.manifest

    def image(self, repository: Ref, tag: str) -> Image | None:
        """The image with the alias of a tag."""
        for name in alias_names(repository, tag):
            if self._library.find_alias(name) is not None:
                return self._library.resolve(name)
        return None

    def images(self, repository: Ref, *, public: bool = False) -> Iterator[Image]:
        """All images with an alias in exactly this repository."""
        for alias in self._records.aliases_in(repository):
            image = self._library.resolve(alias)
            if image is not None and (image.public or not public):
                yield image

    async def manifest(
        self, repository: Ref, reference: str, accepted: frozenset[str] = frozenset(), *, public: bool = False
    ) -> StoredManifest:
        """The manifest. A client that ``accepted`` manifests but no index gets this host's manifest for a tag.

        Raises NotFound, InvalidInput.
        """
        digest = self.digest_of(repository, reference, public=public)
        stored, document = await self._read(digest)
        by_tag_alone = ":" not in reference and isinstance(document, Index)
        if by_tag_alone and accepted & MANIFEST_TYPES and stored.media_type not in accepted:
            assert isinstance(document, Index)
            try:
                chosen = choose(document, self._architecture).digest
                return (await self._read(self.digest_of(repository, chosen, public=public)))[0]
            except (NotFound, Unsupported):
                return stored
        return stored

    async def blob(self, repository: Ref, digest: str, *, public: bool = False) -> StoredBlob:
        """Raises NotFound, InvalidInput."""
        check_digest(digest)
        if not self.has_blob(repository, digest, public=public):
            raise NotFound("blob unknown to registry", field="blob")
        path = self._library.store.path(digest)
        try:
            return StoredBlob(digest, await self._library.store.host.files.size(path), path)
        except NotFound:
            raise NotFound("blob unknown to registry", field="blob") from None

    def has_blob(self, repository: Ref, digest: str, *, public: bool = False) -> bool:
        """Whether it can be read through this repository."""
        return any(self._has_blob(each, digest, public) for each in synonyms(repository))

    def tags(self, repository: Ref, *, public: bool = False) -> list[str]:
        """All tags, sorted. Raises NotFound for an unknown repository."""
        for each in synonyms(repository):
            tags = self.tags_here(each, public=public)
            known = self._records.repositories.find(each) is not None and not public
            if tags or known:
                return tags
        raise NotFound("repository name not known to registry", field="repository")

    def tags_here(self, repository: Ref, *, public: bool = False) -> list[str]:
        """All tags of exactly this repository, in the order of ``tag_order``."""
        found = {named[1] for alias in self._records.aliases_in(repository) if (named := split_alias(alias.name))}
        found |= {tag.name for tag in self._records.tags_in(repository)}
        return sorted((tag for tag in found if self.tagged(repository, tag, public=public)), key=tag_order)

    async def entries(self, repository: Ref) -> list[TaggedManifest]:
        """The tags of exactly this repository, and then its manifests without one."""
        named = [(tag, self.tagged(repository, tag)) for tag in self.tags_here(repository)]
        tagged = {digest for _, digest in named}
        others = [("", each.digest) for each in self._records.manifests_in(repository) if each.digest not in tagged]
        return [await self._entry(repository, tag, digest) for tag, digest in (*named, *others)]

    async def _entry(self, repository: Ref, tag: str, digest: str) -> TaggedManifest:
        image = self.image(repository, tag) if tag else None
        fingerprint = image.fingerprint if image is not None else ""
        record = self._records.manifest(repository, digest)
        if record is None:
            size = image.size if image is not None else 0
            made = image.uploaded_at if image is not None else None
            return TaggedManifest(tag, digest, size=size, image=fingerprint, pushed_at=made)
        sizes = (self._records.blob(repository, each) for each in record.blobs)
        size = record.size + sum(blob.size for blob in sizes if blob is not None)
        kind = record.artifact_type
        return TaggedManifest(tag, digest, record.media_type, kind, size, fingerprint, record.pushed_at)

    def home(self, repository: Ref) -> Ref:
        """The repository that a name is found as: the first of its synonyms with anything in it, else itself."""
        return next((each for each in synonyms(repository) if self._shown(each, False)), repository)

    def home_of(self, repository: Ref, reference: str) -> Ref:
        """That of its synonyms which has a tag or the manifest of a digest; else ``home``."""
        digest = check_digest(reference) if ":" in reference else ""
        for each in synonyms(repository):
            if self._has_manifest(each, digest, False) if digest else self.tagged(each, reference):
                return each
        return self.home(repository)

    def home_of_blob(self, repository: Ref, digest: str) -> Ref:
        """That of its synonyms which has a blob; else ``home``."""
        check_digest(digest)
        return next(
            (each for each in synonyms(repository) if self._has_blob(each, digest, False)), self.home(repository)
        )

    def repositories(self, *, public: bool = False) -> list[Ref]:
        """All with anything in them that clients can name, sorted."""
        return [each for each in self._records.names() if reachable(each) and self._shown(each, public)]

    async def referrers(
        self, repository: Ref, digest: str, artifact_type: str = "", after: str = "", *, public: bool = False
    ) -> Referrers:
        """A page of the manifests attached to a digest, which may be unknown. Raises InvalidInput."""
        digests = {each for name in synonyms(repository) for each in self._attached(name, check_digest(digest), public)}
        found: list[Descriptor] = []
        read, last = 0, ""
        for each in sorted(each for each in digests if each > after):
            if read > _PAGE:
                return Referrers(tuple(found), last)
            last = each
            try:
                stored, document = await self._read(each)
            except NotFound:
                continue
            read += len(stored.data)
            kind = document.artifact_type or (document.config.media_type if isinstance(document, Manifest) else "")
            if not artifact_type or kind == artifact_type:
                found.append(_described(stored, document, kind))
        return Referrers(tuple(found))

    def _attached(self, repository: Ref, digest: str, public: bool) -> Iterator[str]:
        if not public:
            yield from (each.digest for each in self._records.referrers(repository, digest))
        for image in self.images(repository, public=public):
            if image.artifact and image.manifest == digest:
                yield image.artifact

    def _has_manifest(self, repository: Ref, digest: str, public: bool) -> bool:
        if not public and self._records.manifest(repository, digest) is not None:
            return True
        return self._in_images(repository, digest, public)

    def _has_blob(self, repository: Ref, digest: str, public: bool) -> bool:
        if not public and self._records.blob(repository, digest) is not None:
            return True
        return self._in_images(repository, digest, public)

    def _in_images(self, repository: Ref, digest: str, public: bool) -> bool:
        """Whether it came with an image of the repository, or with another one of the same index."""
        given_with = self._library.ownership.is_given_with
        return any(
            self._library.is_of(image, digest) or given_with(image, digest)
            for image in self.images(repository, public=public)
        )

    def _shown(self, repository: Ref, public: bool) -> bool:
        if not public and self._records.repositories.find(repository) is not None:
            return True
        return any(True for _ in self.images(repository, public=public))

    async def _read(self, digest: str) -> tuple[StoredManifest, Manifest | Index]:
        """Raises NotFound also for a blob that is no manifest."""
        unknown = NotFound("manifest unknown", field="manifest")
        try:
            data = await self._library.store.read(digest)
            document = await parsed(data)
        except (NotFound, InvalidInput, Unsupported):
            raise unknown from None
        return StoredManifest(digest, document.media_type, data), document


def _described(stored: StoredManifest, document: Manifest | Index, kind: str) -> Descriptor:
    return Descriptor(stored.media_type, stored.digest, len(stored.data), document.annotations, artifact_type=kind)
