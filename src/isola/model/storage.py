"""Storage pools and volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isola.model.identity import IdRange
from isola.model.reference import Entity, Kind


@dataclass(frozen=True, slots=True)
class Pool:
    """The record of a storage pool."""

    name: str
    driver: str = "overlay"
    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    ready: bool = True

    @property
    def entity(self) -> Entity:
        """What events, operations and users of other things name it by."""
        return Entity.of_host(Kind.STORAGE_POOL, self.name)


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume, identified independently of where its pool lies."""

    id: str
    """For a root volume: the instance's id."""
    pool: str
    kind: str = "container"
    """``container`` (a root) or ``custom``."""
    layers: tuple[str, ...] = ()
    """What the pool keeps the image layers below it under, bottom first (``model.image.layer_keys``)."""
    idmap: IdRange | None = None
    """Ids in which its files are seen where it is mounted."""
    size: int | None = None
    """Bytes that it may take; None: as many as the pool has."""


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes and inodes of a pool."""

    total: int
    used: int
    inodes_total: int = 0
    inodes_used: int = 0
