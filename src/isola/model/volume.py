"""Storage volumes and their snapshots: what is recorded of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from isola.model.identity import NO_MEMBER, IdRange
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind
from isola.model.storage import Volume
from isola.model.units import parse_size

CUSTOM = "custom"
FILESYSTEM, BLOCK, ISO = "filesystem", "block", "iso"
"""Content types: files, a disk, or a disc that is only read."""


@dataclass(frozen=True, slots=True, order=True)
class VolumeRef:
    """A volume by where it is: two pools, kinds or projects may each have one of a name."""

    pool: str
    kind: str
    project: str
    name: str

    @classmethod
    def custom(cls, pool: str, name: str, project: str = DEFAULT_PROJECT) -> VolumeRef:
        """One that is made and removed by itself."""
        return cls(pool, CUSTOM, project, name)

    @property
    def key(self) -> str:
        """``fast/custom/default/data``: what it is stored under."""
        return "/".join((self.pool, self.kind, self.project, self.name))

    @property
    def entity(self) -> Entity:
        """As operations, events and users name it."""
        return Entity(Kind.STORAGE_VOLUME, self.project, (self.pool, self.kind, self.name))

    def snapshot(self, name: str) -> Entity:
        return Entity(Kind.VOLUME_SNAPSHOT, self.project, (self.pool, self.kind, self.name, name))

    def __str__(self) -> str:
        where = f" of project {self.project!r}" if self.project != DEFAULT_PROJECT else ""
        return f"{self.name!r}{where} in pool {self.pool!r}"


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """The record of a volume. ``id`` never changes and names what is on the host."""

    id: str
    pool: str
    kind: str
    project: str
    name: str
    created_at: datetime
    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[str, ...] = ()
    """Holders that it is mounted for; written before it is mounted, and taken back after it is unmounted."""
    content_type: str = FILESYSTEM
    parent: str = ""
    """Id of the volume that it was copied from."""
    ready: bool = True
    """False while it is made, and from the moment on at which its deletion has begun."""
    member: str = NO_MEMBER
    """Of the cluster, or the server's name, as of the first write."""

    @property
    def ref(self) -> VolumeRef:
        """Its reference."""
        return VolumeRef(self.pool, self.kind, self.project, self.name)

    @property
    def size(self) -> int | None:
        """Bytes that its files may take; None if it has no limit, and for disks, which have a size of their own."""
        return size_of(self.config) if self.content_type == FILESYSTEM else None

    def volume(self, idmap: IdRange | None = None) -> Volume:
        """What its pool's driver works on."""
        return Volume(self.id, self.pool, self.kind, idmap=idmap, size=self.size)


@dataclass(frozen=True, slots=True)
class VolumeSnapshot:
    """The record of a snapshot of a volume."""

    id: str
    volume: str
    """Id of the volume."""
    name: str
    created_at: datetime
    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    """The volume's at that time."""
    expires_at: datetime | None = None
    ready: bool = True

    @property
    def key(self) -> str:
        """What it is stored under."""
        return f"{self.volume}/{self.name}"


def size_of(config: Mapping[str, str]) -> int | None:
    """The ``size`` of a volume's configuration, which was validated."""
    return parse_size(config["size"]) if config.get("size") else None
