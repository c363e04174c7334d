"""Pushing manifests: what they refer to must be there, and what runs on this host becomes an image with an alias."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from isola.errors import InvalidInput, NotFound, Unsupported
from isola.host import Host
from isola.images.architecture import check_runs
from isola.images.closure import parsed
from isola.images.descriptor import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    SHA256,
    Descriptor,
    algorithm_of,
    check_digest,
    digest_of,
)
from isola.images.library import ImageLibrary
from isola.images.oci_config import read_config
from isola.images.oci_image import oci_image
from isola.images.oci_manifest import Index, Manifest
from isola.images.platforms import choose
from isola.images.repositories.records import RepositoryRecords
from isola.images.repositories.unnamed import DRIVER, Unnamed, pushed
from isola.images.repositories.views import Views
from isola.images.store import Intake
from isola.model.caller import Caller
from isola.model.image import Image
from isola.model.image_reference import check_tag
from isola.model.names import alias_name
from isola.model.reference import Ref
from isola.model.repository import (
    Repository,
    RepositoryBlob,
    RepositoryManifest,
    RepositoryTag,
    by_tag,
    path_of,
)
from isola.state import Intent, Intents

INTENT = "registry-tag"
_MOST_TAGS = 10
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push has stored."""

    digest: str
    subject: str
    """Digest of the manifest that it is attached to; empty for most."""
    tags: tuple[str, ...]


class Pushing:
    """Stores manifests in repositories. The caller holds the repository's turn."""

    def __init__(
        self,
        *,
        host: Host,
        records: RepositoryRecords,
        library: ImageLibrary,
        views: Views,
        intents: Intents,
        unnamed: Unnamed,
    ) -> None:
        self._host = host
        self._records = records
        self._library = library
        self._views = views
        self._intents = intents
        self._unnamed = unnamed

    async def push(
        self, repository: Ref, reference: str, data: bytes, media_type: str, tags: Sequence[str], *, caller: Caller
    ) -> Pushed:
        """Store a manifest under its digest, and under the tag ``reference`` and ``tags``.

        Raises InvalidInput, Unsupported (the document), NotFound (something that it refers to), Forbidden.
        """
        expected = check_digest(reference) if ":" in reference else None
        names = _checked_tags(tags if expected is not None else (*tags, reference))
        digest = digest_of(data, algorithm_of(expected) if expected is not None else SHA256)
        if expected not in (None, digest):
            raise InvalidInput(
                "provided digest did not match uploaded content", evidence=f"{digest}, expected {expected}",
                field="digest",
            )  # fmt: skip
        document = await parsed(data, media_type, versioned=True)
        intake = self._library.store.intake()
        try:
            await self._require(repository, document, intake)
            stored = await intake.put_bytes(data, document.media_type, expected=digest)
            await self._record(repository, document, stored)
            await intake.recorded()
            for name in names:
                await self._tag(repository, name, document, stored, caller)
        finally:
            intake.close()
        return Pushed(digest, document.subject.digest if document.subject is not None else "", names)

    async def ensure(self, repository: Ref) -> None:
        """Record the repository, before anything is recorded in it."""
        if repository not in self._records.repositories:
            made = Repository(repository.name, self._host.clock.now(), repository.project)
            await self._records.repositories.change(repository, lambda found: found, otherwise=made)

    async def finish_tags(self) -> None:
        """At the start: give images that were pushed right before a kill their names."""
        for intent in self._intents.of_kind(INTENT):
            name = Ref(intent.facts["project"], intent.facts["tag"])
            record = self._records.tags.find(name)
            image = self._library.resolve(name.renamed(record.image)) if record and record.image else None
            if image is not None and image.fingerprint == intent.facts["image"]:
                await self._library.record_pushed(image, name)
            await self._intents.end(intent.id)

    async def _require(self, repository: Ref, document: Manifest | Index, intake: Intake) -> None:
        """Raises NotFound unless the repository has all that the document refers to."""
        if isinstance(document, Index):
            for each in document.manifests:
                if each.media_type in INDEX_TYPES | MANIFEST_TYPES:
                    self._require_manifest(repository, each)
                else:
                    await self._require_blob(repository, each, intake)
            return
        for each in _stored_here(document):
            await self._require_blob(repository, each, intake)

    def _require_manifest(self, repository: Ref, each: Descriptor) -> None:
        try:
            self._views.digest_of(repository, each.digest)
        except NotFound:
            raise _unknown(each.digest) from None

    async def _require_blob(self, repository: Ref, each: Descriptor, intake: Intake) -> None:
        """The blob; one that comes with an image of the repository is linked."""
        if not self._views.has_blob(repository, each.digest):
            raise _unknown(each.digest)
        await intake.keep(each.digest)
        if not await self._library.store.has(each.digest):
            raise _unknown(each.digest)
        if self._records.blob(repository, each.digest) is None:
            size = await self._host.files.size(self._library.store.path(each.digest))
            await self.link(
                RepositoryBlob(repository.name, each.digest, size, self._host.clock.now(), repository.project)
            )

    async def link(self, blob: RepositoryBlob) -> None:
        """Record that a repository has a blob."""
        await self.ensure(Ref(blob.project, blob.repository))
        await self._records.blobs.change(blob.ref, lambda found: blob, otherwise=blob)

    async def _record(self, repository: Ref, document: Manifest | Index, stored: Descriptor) -> None:
        await self.ensure(repository)
        index = document.manifests if isinstance(document, Index) else ()
        blobs = _stored_here(document) if isinstance(document, Manifest) else _blobs_of(document)
        record = RepositoryManifest(
            repository.name,
            stored.digest,
            document.media_type,
            stored.size,
            self._host.clock.now(),
            blobs=tuple(dict.fromkeys(each.digest for each in blobs)),
            manifests=tuple(dict.fromkeys(each.digest for each in index)),
            subject=document.subject.digest if document.subject is not None else "",
            artifact_type=document.artifact_type,
            project=repository.project,
        )
        await self._records.manifests.change(record.ref, lambda found: record, otherwise=record)

    async def _tag(
        self, repository: Ref, name: str, document: Manifest | Index, stored: Descriptor, caller: Caller
    ) -> None:
        """Point a tag to the manifest. A pushed image that had it goes, unless it has another."""
        async with self._unnamed.dropped(pushed([self._views.image(repository, name)]), caller):
            await self._point(repository, name, document, stored, caller)

    async def _point(
        self, repository: Ref, name: str, document: Manifest | Index, stored: Descriptor, caller: Caller
    ) -> None:
        """The alias comes last, and an intent leads to it after a kill."""
        alias = by_tag(repository, name)
        image = await self._runnable(repository, document, stored) if _can_be_alias(alias.name) else None
        record = RepositoryTag(
            repository.name,
            name,
            stored.digest,
            self._host.clock.now(),
            image.fingerprint if image is not None else "",
            repository.project,
        )
        if image is None:
            if self._library.find_alias(alias) is not None:
                await self._library.remove_alias(alias, caller=caller)
            await self._records.tags.change(record.ref, lambda found: record, otherwise=record)
        else:
            facts = {"project": alias.project, "tag": alias.name, "image": image.fingerprint}
            intent = Intent(f"{INTENT}-{self._host.clock.token(8)}", INTENT, facts)
            await self._intents.begin(intent)
            await self._records.tags.change(record.ref, lambda found: record, otherwise=record)
            await self._library.record_pushed(image, alias, caller=caller)
            await self._intents.end(intent.id)

    async def _runnable(self, repository: Ref, document: Manifest | Index, stored: Descriptor) -> Image | None:
        """The image that runs on this host; None for artifacts, and for images of other platforms."""
        store, architecture = self._library.store, self._host.system.kernel().architecture
        try:
            at, index = stored, ""
            if isinstance(document, Index):
                at, index = choose(document, architecture), stored.digest
                data = await store.read(at.digest)
                document = await parsed(data, at.media_type, versioned=True)
                at = Descriptor(at.media_type, at.digest, len(data))
            if not isinstance(document, Manifest) or not document.layers:
                return None
            elsewhere = [each.digest for each in document.layers if _is_elsewhere(each.media_type)]
            if not all(self._views.has_blob(repository, each) for each in elsewhere):  # they were not sent
                return None
            config = read_config(await store.read(document.config.digest))
            check_runs(config.architecture, architecture)
            source = {"driver": DRIVER, "repository": path_of(repository)}
            made = oci_image(at, document, config, now=self._host.clock.now(), index=index, source=source)
        except (InvalidInput, Unsupported, NotFound) as error:
            log.debug("%s of %s is not an image for this host: %s", stored.digest, repository, error)
            return None
        made = replace(made, project=repository.project)
        return self._library.resolve(made.ref) or made


def _checked_tags(names: Sequence[str]) -> tuple[str, ...]:
    if len(names) > _MOST_TAGS:
        raise InvalidInput("Too many tags", field="tag", remedy=f"at most {_MOST_TAGS} at once")
    return tuple(dict.fromkeys(check_tag(name) for name in names))


def _stored_here(manifest: Manifest) -> list[Descriptor]:
    """The configuration and the layers, without those that clients get from elsewhere."""
    return [manifest.config, *(each for each in manifest.layers if not _is_elsewhere(each.media_type))]


def _blobs_of(index: Index) -> list[Descriptor]:
    return [each for each in index.manifests if each.media_type not in INDEX_TYPES | MANIFEST_TYPES]


def _is_elsewhere(media_type: str) -> bool:
    return ".foreign." in media_type or ".nondistributable." in media_type


def _can_be_alias(name: str) -> bool:
    try:
        alias_name(name)
    except InvalidInput:
        return False
    return True


def _unknown(digest: str) -> NotFound:
    return NotFound("manifest blob unknown to registry", evidence=digest, field="blobs")
