"""Storage pools and volumes."""

from __future__ import annotations

from collections.abc import Sequence

from isola.doors.rest.addresses import address
from isola.doors.rest.shapes.times import moment
from isola.model.instance import Instance
from isola.model.storage import Pool, Space


def pool_json(pool: Pool, used_by: Sequence[str]) -> dict[str, object]:
    return {
        "name": pool.name,
        "driver": pool.driver,
        "description": pool.description,
        "config": dict(pool.config),
        "status": "Created" if pool.ready else "Errored",
        "locations": ["none"],
        "used_by": list(used_by),
    }


def space_json(space: Space) -> dict[str, object]:
    """Size and use of a pool."""
    return {
        "space": {"total": space.total, "used": space.used},
        "inodes": {"total": space.inodes_total, "used": space.inodes_used},
    }


def root_volume_json(instance: Instance) -> dict[str, object]:
    """The volume an instance's root lies in."""
    return {
        "name": instance.name,
        "type": "container",
        "content_type": "filesystem",
        "description": "",
        "config": {},
        "created_at": moment(instance.created_at),
        "location": "none",
        "project": instance.project,
        "used_by": [address(instance.entity)],
    }


def writable(pool: Pool) -> dict[str, object]:
    """What a PUT replaces: the entity tag is computed of it."""
    return {"config": dict(pool.config), "description": pool.description}
