"""The records of repositories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isola.model.reference import Kind, Ref
from isola.model.repository import (
    Repository,
    RepositoryBlob,
    RepositoryManifest,
    RepositoryTag,
    blobs_entity,
    by_digest,
    content_entity,
    manifest_entity,
    repository_entity,
)
from isola.state import References, Scoped


@dataclass(frozen=True, slots=True)
class RepositoryRecords:
    """Collections, and look-ups that take time in proportion to their results."""

    repositories: Scoped[Repository]
    manifests: Scoped[RepositoryManifest]
    tags: Scoped[RepositoryTag]
    blobs: Scoped[RepositoryBlob]
    references: References

    def manifest(self, repository: Ref, digest: str) -> RepositoryManifest | None:
        """The pushed manifest."""
        return self.manifests.find(by_digest(repository, digest))

    def blob(self, repository: Ref, digest: str) -> RepositoryBlob | None:
        """The pushed or mounted blob."""
        return self.blobs.find(by_digest(repository, digest))

    def names(self) -> list[Ref]:
        """All repositories with a manifest, a tag or an alias, sorted."""
        return sorted(used.ref for used, _ in self.references.of_kind(Kind.REPOSITORY))

    def manifests_in(self, repository: Ref) -> list[RepositoryManifest]:
        """All that were pushed to it."""
        users = self.references.users(repository_entity(repository))
        found = (self.manifest(repository, each.names[1]) for each in users if each.kind is Kind.REPOSITORY_MANIFEST)
        return [each for each in found if each is not None]

    def tags_in(self, repository: Ref) -> list[RepositoryTag]:
        """All that were pushed to it, valid or not."""
        users = self.references.users(repository_entity(repository))
        return self._tags(repository, [each.names[1] for each in users if each.kind is Kind.REPOSITORY_TAG])

    def aliases_in(self, repository: Ref) -> list[Ref]:
        """The aliases that are its tags."""
        users = self.references.users(repository_entity(repository))
        return [each.ref for each in users if each.kind is Kind.IMAGE_ALIAS]

    def tags_of(self, repository: Ref, digest: str) -> list[RepositoryTag]:
        """The tags of a manifest, valid or not."""
        users = self.references.users(manifest_entity(repository, digest))
        return self._tags(repository, [each.names[1] for each in users if each.kind is Kind.REPOSITORY_TAG])

    def referrers(self, repository: Ref, digest: str) -> list[RepositoryManifest]:
        """The manifests that are attached to one, which may be missing."""
        users = self.references.users(manifest_entity(repository, digest))
        found = (self.manifest(repository, each.names[1]) for each in users if each.kind is Kind.REPOSITORY_MANIFEST)
        return [each for each in found if each is not None]

    def blobs_in(self, repository: Ref) -> list[RepositoryBlob]:
        """All that were pushed to it or mounted into it."""
        users = self.references.users(blobs_entity(repository))
        found = (self.blob(repository, each.names[1]) for each in users)
        return [each for each in found if each is not None]

    def homes_of(self, digest: str) -> Iterator[Ref]:
        """The repositories that have a blob or manifest."""
        for each in self.references.users(content_entity(digest)):
            yield Ref(each.project, each.names[0])

    def owns(self, project: str, digest: str) -> bool:
        """Whether a repository of a project has this blob or manifest."""
        return any(each.project == project for each in self.references.users(content_entity(digest)))

    def pushed_with(self, project: str, index: str, digest: str) -> bool:
        """Whether a blob or manifest was pushed to a repository of a project for an index there."""
        for user in self.references.users(content_entity(index)):
            if user.kind is Kind.REPOSITORY_MANIFEST and user.project == project:
                home, waiting, seen = Ref(project, user.names[0]), [index], {index}
                while waiting:
                    record = self.manifest(home, waiting.pop())
                    if record is not None and digest in (*record.manifests, *record.blobs):
                        return True
                    further = set(record.manifests) - seen if record is not None else set[str]()
                    seen |= further
                    waiting += further
        return False

    def is_empty(self, repository: Ref) -> bool:
        """Whether nothing that was pushed is left in it."""
        users = self.references.users(repository_entity(repository))
        pushed = any(each.kind is not Kind.IMAGE_ALIAS for each in users)
        return not pushed and not self.references.users(blobs_entity(repository))

    def named(self) -> set[str]:
        """All blobs that must be kept for them."""
        kept = {each.digest for each in self.blobs}
        for manifest in self.manifests:
            kept.add(manifest.digest)
            kept.update(manifest.blobs)
        return kept

    def _tags(self, repository: Ref, names: list[str]) -> list[RepositoryTag]:
        found = (self.tags.find(repository.renamed(f"{repository.name}:{name}")) for name in names)
        return [each for each in found if each is not None]
