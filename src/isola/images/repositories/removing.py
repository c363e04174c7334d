"""Removing tags, manifests and blobs from repositories, and what nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from isola.errors import InUse, NotFound
from isola.images.library import ImageLibrary
from isola.images.repositories.records import RepositoryRecords
from isola.images.repositories.unnamed import Unnamed, pushed
from isola.images.repositories.views import Views
from isola.model.caller import DAEMON, Caller
from isola.model.image import Image
from isola.model.reference import Ref
from isola.model.repository import RepositoryBlob, RepositoryManifest, alias_names, by_digest, by_tag

_UNUSED = timedelta(days=1)
"""How long a blob that no manifest refers to is kept for one that is about to be pushed."""


class Removing:
    """Removes from repositories. The caller holds the repository's turn."""

    def __init__(self, records: RepositoryRecords, library: ImageLibrary, views: Views, unnamed: Unnamed) -> None:
        self._records = records
        self._library = library
        self._views = views
        self._unnamed = unnamed

    async def tag(self, repository: Ref, tag: str, *, caller: Caller = DAEMON) -> None:
        """Remove a tag of exactly this repository, with the alias that it is. Raises NotFound."""
        if not self._views.tagged(repository, tag):
            raise NotFound("manifest unknown", field="manifest")
        async with self._unnamed.dropped(pushed([self._views.image(repository, tag)]), caller):
            await self._remove_tag(repository, tag, caller)
        await self.settle(repository)

    async def manifest(self, repository: Ref, digest: str, *, caller: Caller = DAEMON) -> None:
        """Remove a manifest of exactly this repository with all its tags; an image without another name goes too.

        Raises NotFound.
        """
        record = self._records.manifest(repository, digest)
        images = [each for each in self._views.images(repository) if digest in (each.manifest, each.index)]
        if record is None and not images:
            raise NotFound("manifest unknown", field="manifest")
        async with self._unnamed.dropped(images, caller):
            for name in [each for each in self._views.tags_here(repository) if self._names(repository, each, digest)]:
                await self._remove_tag(repository, name, caller)
            if record is not None:
                await self._remove_records([record])
        await self.settle(repository)

    async def everything(self, repository: Ref, *, caller: Caller = DAEMON) -> None:
        """Remove all tags, manifests and blobs of exactly this repository. Raises NotFound."""
        images = list(self._views.images(repository))
        if not images and repository not in self._records.repositories:
            raise NotFound("repository name not known to registry", field="repository")
        async with self._unnamed.dropped(images, caller):
            for name in self._views.tags_here(repository):
                await self._remove_tag(repository, name, caller)
            for tag in self._records.tags_in(repository):
                await self._records.tags.remove(tag.ref)
            await self._remove_records(self._records.manifests_in(repository))
            await self._remove_blobs(self._records.blobs_in(repository))
        await self.settle(repository)

    async def blob(self, repository: Ref, digest: str) -> None:
        """Remove a blob from exactly this repository. Raises NotFound, InUse (by a manifest)."""
        record = self._records.blob(repository, digest)
        if record is None and not self._views.has_blob(repository, digest):
            raise NotFound("blob unknown to registry", field="blob")
        if record is None or digest in self._needed(repository):
            raise InUse("A manifest refers to this blob", remedy="delete the manifest first")
        await self._remove_blobs([record])
        await self.settle(repository)

    async def forget_image(self, repository: Ref, image: Image | None = None) -> None:
        """Remove what was pushed for images that exist no more: the tags, their manifests and what is attached."""
        tags = [each for each in self._records.tags_in(repository) if each.image]
        gone = [each for each in tags if self._library.resolve(repository.renamed(each.image)) is None]
        if image is not None:
            gone = [each for each in gone if each.image == image.fingerprint]
        for tag in gone:
            await self._records.tags.remove(tag.ref)
        tagged: dict[str, datetime] = {}
        for tag in gone:
            tagged[tag.digest] = max(tag.pushed_at, tagged.get(tag.digest, tag.pushed_at))
        for digest, until in tagged.items():
            await self._remove_tree(repository, digest, until)
        if gone:
            await self.settle(repository)

    async def forget_stale_tags(self, repository: Ref) -> None:
        """Remove the records of tags whose aliases were removed or changed in another way."""
        for each in self._records.tags_in(repository):
            alias = self._library.find_alias(by_tag(repository, each.name))
            if each.image and (alias is None or alias.target != each.image):
                await self._records.tags.remove(each.ref)

    async def forget_unused_blobs(self, repository: Ref, now: datetime, recently: Iterable[Ref]) -> int:
        """Remove old blobs that no manifest needs, except those that a client has asked for recently."""
        needed, spared = self._needed(repository), set(recently)
        unused = [
            each
            for each in self._records.blobs_in(repository)
            if each.digest not in needed and each.linked_at < now - _UNUSED and each.ref not in spared
        ]
        await self._remove_blobs(unused)
        return len(unused)

    async def settle(self, repository: Ref) -> None:
        """Remove the record of a repository with nothing in it but tags that are aliases no more."""
        await self.forget_stale_tags(repository)
        if self._records.is_empty(repository):
            await self._records.repositories.remove(repository)

    def _names(self, repository: Ref, tag: str, digest: str) -> bool:
        image = self._views.image(repository, tag)
        named = {self._views.tagged(repository, tag), *((image.manifest, image.index) if image is not None else ())}
        return digest in named

    async def _remove_tag(self, repository: Ref, tag: str, caller: Caller) -> None:
        for name in alias_names(repository, tag):
            if self._library.find_alias(name) is not None:
                await self._library.remove_alias(name, caller=caller)
        await self._records.tags.remove(by_tag(repository, tag))

    async def _remove_tree(self, repository: Ref, digest: str, until: datetime) -> None:
        """Remove a manifest without tags, those of its index that nothing else needs, and what is attached to them.

        What was pushed again after its tag stays: a client is about to push a tag or an index that needs it.
        """
        waiting, seen = [digest], set[str]()
        while waiting:
            each = waiting.pop()
            record = self._records.manifest(repository, each)
            if record is None or each in seen or self._records.tags_of(repository, each):
                continue
            seen.add(each)
            if any(each in other.manifests for other in self._records.manifests_in(repository)):
                continue
            if record.subject not in seen and record.pushed_at > until:
                continue
            await self._remove_records([record])
            waiting += [*record.manifests, *(other.digest for other in self._records.referrers(repository, each))]

    async def _remove_records(self, records: list[RepositoryManifest]) -> None:
        store = self._library.store
        for each in records:
            blobs = [each.digest, *each.blobs]
            with store.holding(blobs):  # a sweep would take the mark for done while there is a record
                await store.mark_removable(blobs)
                await self._records.manifests.remove(by_digest(Ref(each.project, each.repository), each.digest))

    async def _remove_blobs(self, records: list[RepositoryBlob]) -> None:
        store, digests = self._library.store, [each.digest for each in records]
        if not records:
            return
        with store.holding(digests):
            await store.mark_removable(digests)
            for each in records:
                await self._records.blobs.remove(each.ref)

    def _needed(self, repository: Ref) -> set[str]:
        return {digest for each in self._records.manifests_in(repository) for digest in each.blobs}
