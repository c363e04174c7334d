"""Snapshots of instances: what is recorded of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from isola.model.instance import Instance
from isola.model.reference import Entity, Kind


@dataclass(frozen=True, slots=True)
class InstanceSnapshot:
    """The record of a snapshot. ``id`` never changes and names what its pool holds of it."""

    id: str
    name: str
    created_at: datetime
    instance: Instance
    """The record of the instance at that time; its name may be another one by now."""
    expires_at: datetime | None = None
    ready: bool = True
    """False while it is taken, and from the moment on at which its deletion has begun."""
    stateful: bool = False
    """Whether it has what was in memory, too."""

    @property
    def key(self) -> str:
        """What it is stored under."""
        return snapshot_key(self.instance.id, self.name)


def snapshot_key(instance_id: str, name: str) -> str:
    """``3f2a.../snap0``: a renamed instance keeps its snapshots."""
    return f"{instance_id}/{name}"


def snapshot_entity(instance: Instance, name: str) -> Entity:
    """As operations and events name a snapshot of an instance."""
    return Entity(Kind.INSTANCE_SNAPSHOT, instance.project, (instance.name, name))
