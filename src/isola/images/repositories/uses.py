"""References of the records of repositories, and of aliases as tags. Pure."""

from __future__ import annotations

from isola.model.image import Alias
from isola.model.project import project_entity
from isola.model.reference import Entity, Kind, Ref
from isola.model.repository import (
    Repository,
    RepositoryBlob,
    RepositoryManifest,
    RepositoryTag,
    blobs_entity,
    content_entity,
    manifest_entity,
    repository_entity,
    split_alias,
)
from isola.state.references import NOTHING, Used


def repository_uses(repository: Repository) -> Used:
    """Its project."""
    return frozenset({project_entity(repository.project)})


def manifest_mentions(manifest: RepositoryManifest) -> Used:
    """Its repository, its content, and the manifest that it is attached to."""
    home = Ref(manifest.project, manifest.repository)
    subject = {manifest_entity(home, manifest.subject)} if manifest.subject else set()
    return frozenset({repository_entity(home), content_entity(manifest.digest), *subject})


def tag_mentions(tag: RepositoryTag) -> Used:
    """Its repository and its manifest."""
    home = Ref(tag.project, tag.repository)
    return frozenset({repository_entity(home), manifest_entity(home, tag.digest)})


def blob_mentions(blob: RepositoryBlob) -> Used:
    """The blobs of its repository, and its content."""
    return frozenset({blobs_entity(Ref(blob.project, blob.repository)), content_entity(blob.digest)})


def alias_mentions(alias: Alias) -> Used:
    """The repository whose tag it is."""
    named = split_alias(alias.name)
    return frozenset({repository_entity(Ref(alias.project, named[0]))}) if named else NOTHING


def entity_of_manifest(manifest: RepositoryManifest) -> Entity:
    """What it is in the index of references."""
    return manifest_entity(Ref(manifest.project, manifest.repository), manifest.digest)


def entity_of_tag(tag: RepositoryTag) -> Entity:
    """What it is in the index of references."""
    return Entity(Kind.REPOSITORY_TAG, tag.project, (tag.repository, tag.name))


def entity_of_blob(blob: RepositoryBlob) -> Entity:
    """What it is in the index of references."""
    return Entity(Kind.REPOSITORY_BLOB, blob.project, (blob.repository, blob.digest))
