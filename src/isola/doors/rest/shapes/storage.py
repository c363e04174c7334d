"""Storage pools."""

from __future__ import annotations

from collections.abc import Sequence

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


def writable(pool: Pool) -> dict[str, object]:
    """The fields that PUT replaces; the entity tag is computed of them."""
    return {"config": dict(pool.config), "description": pool.description}
