"""The collections of all records, and the references between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

from isola.devices.uses import Home
from isola.images import uses as image_uses
from isola.images.repositories import RepositoryRecords
from isola.images.repositories import uses as repository_uses
from isola.instances import uses as instance_uses
from isola.model.build import BuildResult
from isola.model.certificate import Certificate
from isola.model.identity import NO_MEMBER
from isola.model.image import Alias, Image
from isola.model.instance import Instance
from isola.model.login_token import LoginToken
from isola.model.network import Network
from isola.model.profile import Profile
from isola.model.project import FEATURES, Project
from isola.model.reference import DEFAULT_PROJECT, Kind
from isola.model.repository import (
    Repository,
    RepositoryBlob,
    RepositoryManifest,
    RepositoryTag,
    repository_entity,
)
from isola.model.snapshot import InstanceSnapshot
from isola.model.storage import Pool
from isola.model.volume import VolumeRecord, VolumeSnapshot
from isola.model.warning import WarningRecord
from isola.network import uses as network_uses
from isola.profiles import uses as profile_uses
from isola.state import Collection, Intents, Keyed, References, Role, Scoped, Store, mapping_codec, record_codec
from isola.state.recount import recount
from isola.state.schema import upgrade
from isola.storage import uses as volume_uses

T = TypeVar("T")
Lives = TypeVar("Lives", Instance, VolumeRecord, WarningRecord)
"""Records that belong to one member of a cluster."""


@dataclass(frozen=True, slots=True)
class Records:
    """One collection for each noun. They are loaded in this order: projects determine what names refer to."""

    references: References
    server: Collection[Mapping[str, str]]
    projects: Collection[Project]
    instances: Scoped[Instance]
    profiles: Scoped[Profile]
    images: Scoped[Image]
    aliases: Scoped[Alias]
    repositories: Scoped[Repository]
    repository_manifests: Scoped[RepositoryManifest]
    repository_tags: Scoped[RepositoryTag]
    repository_blobs: Scoped[RepositoryBlob]
    networks: Scoped[Network]
    pools: Collection[Pool]
    volumes: Collection[VolumeRecord]
    volume_snapshots: Collection[VolumeSnapshot]
    instance_snapshots: Collection[InstanceSnapshot]
    certificates: Collection[Certificate]
    login_tokens: Collection[LoginToken]
    warnings: Collection[WarningRecord]
    build_results: Collection[BuildResult]
    intents: Intents

    @property
    def collections(self) -> tuple[Keyed[Any, Any], ...]:
        """All collections that cache the store; each is loaded and followed."""
        held = [getattr(self, each.name) for each in fields(self)]
        return tuple(each for each in held if isinstance(each, Keyed))

    @property
    def of_repositories(self) -> RepositoryRecords:
        """Those of the registry."""
        return RepositoryRecords(
            self.repositories, self.repository_manifests, self.repository_tags, self.repository_blobs, self.references
        )

    @property
    def home(self) -> Home:
        return _home(self.projects)

    @classmethod
    async def load(cls, store: Store, member: str = NO_MEMBER) -> Records:
        """Upgrade and read all records. New records belong to ``member``."""
        await upgrade(store)
        records = _unread(store, member)
        await records.intents.load()
        for collection in records.collections:
            await collection.load()
        await recount(store, records.collections)
        return records


def _home(projects: Collection[Project]) -> Home:
    """The project in which resources of a kind are found; for a project without a record that is the default one."""

    def home(project: str, kind: Kind) -> str:
        if project == DEFAULT_PROJECT:  # asked dozens of times for a start
            return project
        return (projects.find(project) or Project(project)).home(kind)

    return home


def _unread(store: Store, member: str) -> Records:
    def here(record: Lives) -> Lives:
        return replace(record, member=member) if record.member == NO_MEMBER else record

    def of(kind: type[T], noun: str, prefix: str, role: Role[T] | None = None) -> Scoped[T]:
        return Scoped(store, noun, f"/{prefix}/", record_codec(kind), role=role)

    def plain(kind: type[T], noun: str, prefix: str, role: Role[T] | None = None) -> Collection[T]:
        return Collection(store, noun, f"/{prefix}/", record_codec(kind), role=role)

    references = References()
    projects = plain(Project, "project", "projects", _project_role(references))
    home = _home(projects)
    return Records(
        references=references,
        server=Collection(store, "server configuration", "/server/", mapping_codec()),
        projects=projects,
        instances=Scoped(
            store,
            "instance",
            "/instances/",
            record_codec(Instance),
            stamp=here,
            role=_instance_role(references, home),
            suggests=True,
            identity=lambda instance: instance.id,
        ),
        profiles=of(Profile, "profile", "profiles", _profile_role(references, home)),
        images=of(Image, "image", "images", _image_role(references)),
        aliases=of(Alias, "image alias", "aliases", _alias_role(references)),
        repositories=of(Repository, "repository", "repositories", _repository_role(references)),
        repository_manifests=of(
            RepositoryManifest, "manifest", "repository-manifests", _repository_manifest_role(references)
        ),
        repository_tags=of(RepositoryTag, "tag", "repository-tags", _repository_tag_role(references)),
        repository_blobs=of(RepositoryBlob, "blob", "repository-blobs", _repository_blob_role(references)),
        networks=of(Network, "network", "networks", _network_role(references)),
        pools=plain(Pool, "storage pool", "pools", _pool_role(references)),
        volumes=Collection(
            store, "storage volume", "/volumes/", record_codec(VolumeRecord), stamp=here, role=_volume_role(references)
        ),
        volume_snapshots=plain(VolumeSnapshot, "snapshot of a storage volume", "volume-snapshots"),
        instance_snapshots=plain(
            InstanceSnapshot, "snapshot of an instance", "instance-snapshots", _snapshot_role(references, home)
        ),
        certificates=plain(Certificate, "certificate", "certificates"),
        login_tokens=plain(LoginToken, "login token", "login-tokens"),
        warnings=Collection(store, "warning", "/warnings/", record_codec(WarningRecord), stamp=here),
        build_results=plain(BuildResult, "build result", "build-results", _build_role(references)),
        intents=Intents(store),
    )


def _instance_role(references: References, home: Home) -> Role[Instance]:
    return Role(
        references,
        entity=lambda instance: instance.entity,
        uses=partial(instance_uses.uses, home),
        mentions=partial(instance_uses.mentions, home),
    )


def _snapshot_role(references: References, home: Home) -> Role[InstanceSnapshot]:
    return Role(references, entity=instance_uses.snapshot_holder, uses=partial(instance_uses.snapshot_uses, home))


def _profile_role(references: References, home: Home) -> Role[Profile]:
    return Role(
        references,
        entity=lambda profile: profile.entity,
        uses=partial(profile_uses.uses, home),
        mentions=profile_uses.mentions,
        usable=lambda profile: True,
    )


def _image_role(references: References) -> Role[Image]:
    return Role(
        references,
        entity=lambda image: image.entity,
        uses=image_uses.uses,
        mentions=image_uses.mentions,
        usable=lambda image: True,
    )


def _alias_role(references: References) -> Role[Alias]:
    return Role(references, entity=lambda alias: alias.entity, mentions=repository_uses.alias_mentions)


def _repository_role(references: References) -> Role[Repository]:
    return Role(references, entity=lambda found: repository_entity(found.ref), uses=repository_uses.repository_uses)


def _repository_manifest_role(references: References) -> Role[RepositoryManifest]:
    return Role(references, entity=repository_uses.entity_of_manifest, mentions=repository_uses.manifest_mentions)


def _repository_tag_role(references: References) -> Role[RepositoryTag]:
    return Role(references, entity=repository_uses.entity_of_tag, mentions=repository_uses.tag_mentions)


def _repository_blob_role(references: References) -> Role[RepositoryBlob]:
    return Role(references, entity=repository_uses.entity_of_blob, mentions=repository_uses.blob_mentions)


def _network_role(references: References) -> Role[Network]:
    return Role(
        references,
        entity=lambda network: network.entity,
        uses=network_uses.uses,
        usable=lambda network: network.ready,
    )


def _pool_role(references: References) -> Role[Pool]:
    return Role(references, entity=lambda pool: pool.entity, usable=lambda pool: pool.ready)


def _volume_role(references: References) -> Role[VolumeRecord]:
    return Role(
        references,
        entity=lambda record: record.ref.entity,
        uses=volume_uses.uses,
        usable=lambda record: record.ready,
    )


def _build_role(references: References) -> Role[BuildResult]:
    return Role(references, entity=lambda result: result.entity, mentions=lambda result: result.mentions)


def _project_role(references: References) -> Role[Project]:
    """Features can be changed only while a project is empty, because they determine what the names in it refer to."""

    def other_features(old: Project, new: Project) -> bool:
        return any(old.config.get(key) != new.config.get(key) for key in FEATURES)

    return Role(references, entity=lambda project: project.entity, usable=lambda project: True, alone=other_features)
