"""Storage volumes and their snapshots."""

from __future__ import annotations

from collections.abc import Sequence

from isola.doors.rest.addresses import address
from isola.doors.rest.shapes.times import UNSET, moment
from isola.model.instance import Instance
from isola.model.snapshot import InstanceSnapshot
from isola.model.volume import BLOCK, FILESYSTEM, VolumeRecord, VolumeSnapshot


def volume_json(record: VolumeRecord, used_by: Sequence[str]) -> dict[str, object]:
    """A custom volume."""
    return {
        "name": record.name,
        "type": record.kind,
        "content_type": record.content_type,
        "description": record.description,
        "config": dict(record.config),
        "created_at": moment(record.created_at),
        "location": "none",
        "pool": record.pool,
        "project": record.project,
        "used_by": list(used_by),
    }


def snapshot_volume_json(record: VolumeRecord, snapshot: VolumeSnapshot, used_by: Sequence[str]) -> dict[str, object]:
    """A snapshot in a list of volumes: ``data/snap0``."""
    return volume_json(record, used_by) | {
        "name": f"{record.name}/{snapshot.name}",
        "description": snapshot.description,
        "config": dict(snapshot.config),
        "created_at": moment(snapshot.created_at),
    }


def root_volume_json(instance: Instance) -> dict[str, object]:
    """The root volume of an instance, in the API's form of a volume."""
    return {
        "name": instance.name,
        "type": instance.type,
        "content_type": _content(instance),
        "description": instance.root_description,
        "config": _root_config(instance),
        "created_at": moment(instance.created_at),
        "location": "none",
        "pool": instance.volatile.get("root.pool", ""),
        "project": instance.project,
        "used_by": [address(instance.entity)],
    }


def root_volume_writable(instance: Instance) -> dict[str, object]:
    """The fields that the entity tag is computed of."""
    shape = root_volume_json(instance)
    return {"config": shape["config"], "description": shape["description"]}


def root_snapshot_volume_json(instance: Instance, snapshot: InstanceSnapshot) -> dict[str, object]:
    """A snapshot of an instance in a list of volumes: ``web1/snap0``."""
    return root_volume_json(instance) | {
        "name": f"{instance.name}/{snapshot.name}",
        "description": snapshot.instance.root_description,
        "config": dict(snapshot.instance.root_config),
        "created_at": moment(snapshot.created_at),
    }


def root_snapshot_json(snapshot: InstanceSnapshot) -> dict[str, object]:
    """The same among the snapshots of that volume."""
    return {
        "name": snapshot.name,
        "description": snapshot.instance.root_description,
        "config": dict(snapshot.instance.root_config),
        "content_type": _content(snapshot.instance),
        "created_at": moment(snapshot.created_at),
        "expires_at": moment(snapshot.expires_at, UNSET),
    }


def snapshot_json(snapshot: VolumeSnapshot, content: str = FILESYSTEM) -> dict[str, object]:
    """A snapshot of a volume with this type of content."""
    return {
        "name": snapshot.name,
        "description": snapshot.description,
        "config": dict(snapshot.config),
        "content_type": content,
        "created_at": moment(snapshot.created_at),
        "expires_at": moment(snapshot.expires_at, UNSET),
    }


def listed_snapshot(volume: str, shape: dict[str, object]) -> dict[str, object]:
    """A snapshot as LXD shows it in a list: named ``data/snap0``, and without expiry null in its place."""
    expires_at = shape["expires_at"]
    return shape | {"name": f"{volume}/{shape['name']}", "expires_at": None if expires_at == UNSET else expires_at}


def volume_writable(record: VolumeRecord) -> dict[str, object]:
    """The fields that PUT replaces; the entity tag is computed of them."""
    return {"config": dict(record.config), "description": record.description, "name": record.name}


def snapshot_writable(snapshot: VolumeSnapshot) -> dict[str, object]:
    """The fields of a snapshot that PUT replaces."""
    return {"description": snapshot.description, "expires_at": moment(snapshot.expires_at, UNSET)}


def _root_config(instance: Instance) -> dict[str, str]:
    size = instance.volatile.get("root.size")
    return dict(instance.root_config) | ({"size": size} if size else {})


def _content(instance: Instance) -> str:
    return BLOCK if instance.isolation == "vm" else FILESYSTEM
