"""References of a storage volume's record to other entities. Pure."""

from __future__ import annotations

from isola.model.project import project_entity
from isola.model.reference import Entity, Kind
from isola.model.volume import VolumeRecord
from isola.state.references import Used


def uses(record: VolumeRecord) -> Used:
    """Its pool and its project."""
    return frozenset({Entity.of_host(Kind.STORAGE_POOL, record.pool), project_entity(record.project)})
