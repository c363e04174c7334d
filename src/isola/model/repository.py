"""Repositories of images and artifacts, as registries have them: manifests by digest, tags, and blobs.

A tag of a runnable image is also an alias of it, ``REPOSITORY:TAG``; and every alias with a name of this form is a tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from isola.errors import InvalidInput
from isola.model.image_reference import DEFAULT_TAG, DOCKER_HUB, check_path, check_tag
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref

_PROJECT = "project"
"""First part of the path of repositories in other projects than the default one."""
_OFFICIAL = "library"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that was pushed to. Others exist through the aliases of images alone."""

    name: str
    created_at: datetime
    project: str = DEFAULT_PROJECT

    @property
    def ref(self) -> Ref:
        """Its project and its name."""
        return Ref(self.project, self.name)


@dataclass(frozen=True, slots=True)
class RepositoryManifest:
    """A manifest or index that was pushed."""

    repository: str
    digest: str
    media_type: str
    size: int
    pushed_at: datetime
    blobs: tuple[str, ...] = ()
    """Digests of the configuration and the layers."""
    manifests: tuple[str, ...] = ()
    """Digests of the manifests of an index."""
    subject: str = ""
    """Digest of the manifest that it is attached to."""
    artifact_type: str = ""
    project: str = DEFAULT_PROJECT

    @property
    def ref(self) -> Ref:
        """``team/app@sha256:...``."""
        return by_digest(Ref(self.project, self.repository), self.digest)


@dataclass(frozen=True, slots=True)
class RepositoryTag:
    """A tag that was pushed. With an ``image`` it is valid while the alias of the same name refers to that image."""

    repository: str
    name: str
    digest: str
    """Digest of a manifest or index."""
    pushed_at: datetime
    image: str = ""
    """Fingerprint of the image that runs here; empty where none does."""
    project: str = DEFAULT_PROJECT

    @property
    def ref(self) -> Ref:
        """``team/app:1``."""
        return by_tag(Ref(self.project, self.repository), self.name)


@dataclass(frozen=True, slots=True)
class RepositoryBlob:
    """A blob that was pushed to a repository, or mounted into it."""

    repository: str
    digest: str
    size: int
    linked_at: datetime
    """The last time."""
    project: str = DEFAULT_PROJECT

    @property
    def ref(self) -> Ref:
        """``team/app@sha256:...``."""
        return by_digest(Ref(self.project, self.repository), self.digest)


def by_digest(repository: Ref, digest: str) -> Ref:
    """The key of the records of a manifest or blob."""
    return repository.renamed(f"{repository.name}@{digest}")


def by_tag(repository: Ref, tag: str) -> Ref:
    """The key of the record of a tag, and of the alias."""
    return repository.renamed(f"{repository.name}:{tag}")


def repository_entity(repository: Ref) -> Entity:
    """What manifests, tags and aliases belong to."""
    return Entity.of(Kind.REPOSITORY, repository)


def blobs_entity(repository: Ref) -> Entity:
    """What the blobs of a repository belong to."""
    return Entity.of(Kind.REPOSITORY_BLOBS, repository)


def manifest_entity(repository: Ref, digest: str) -> Entity:
    """What tags, and manifests with this subject, refer to."""
    return Entity(Kind.REPOSITORY_MANIFEST, repository.project, (repository.name, digest))


def content_entity(digest: str) -> Entity:
    """A blob, in whichever repositories it is."""
    return Entity.of_host(Kind.REPOSITORY_CONTENT, digest)


def repository_at(path: str) -> Ref:
    """The repository of a path: ``project/blue/team/app`` is ``team/app`` of project ``blue``, any other is of the
    default project.

    Raises InvalidInput.
    """
    head, _, rest = check_path(path).partition("/")
    if head != _PROJECT or not rest:
        return Ref(DEFAULT_PROJECT, path)
    project, _, name = rest.partition("/")
    if not name:
        raise InvalidInput(
            "The name of the repository is missing", field="name", remedy=f"write {_PROJECT}/PROJECT/REPOSITORY"
        )
    return Ref(project, name)


def path_of(repository: Ref) -> str:
    """The path by which clients of the registry know a repository."""
    return repository.name if repository.project == DEFAULT_PROJECT else "/".join((_PROJECT, *_parts(repository)))


def reachable(repository: Ref) -> bool:
    """Whether its path leads back to it."""
    try:
        return repository_at(path_of(repository)) == repository
    except InvalidInput:
        return False


def is_tag(text: str) -> bool:
    """Whether it can be the name of a tag."""
    try:
        return bool(check_tag(text))
    except InvalidInput:
        return False


def split_alias(name: str) -> tuple[str, str] | None:
    """Repository and tag of an alias; ``debian/12`` is ``latest`` of its own repository. None for another name."""
    repository, colon, tag = name.rpartition(":")
    if not colon:
        repository, tag = name, DEFAULT_TAG
    try:
        return check_path(repository), check_tag(tag)
    except InvalidInput:
        return None


def alias_names(repository: Ref, tag: str) -> Iterator[Ref]:
    """The aliases that a tag can be, the most exact first."""
    yield by_tag(repository, tag)
    if tag == DEFAULT_TAG:
        yield repository


def synonyms(repository: Ref) -> Iterator[Ref]:
    """Where to look for a repository: ``nginx`` may also be that of Docker Hub."""
    yield repository
    yield repository.renamed(f"{DOCKER_HUB}/{repository.name}")
    if "/" not in repository.name:
        yield repository.renamed(f"{DOCKER_HUB}/{_OFFICIAL}/{repository.name}")


def _parts(repository: Ref) -> tuple[str, str]:
    return repository.project, repository.name
