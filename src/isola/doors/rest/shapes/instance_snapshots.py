"""Snapshots of instances."""

from __future__ import annotations

from isola.doors.rest.shapes.instances import plain
from isola.doors.rest.shapes.times import UNSET, moment
from isola.model.instance import Config, Devices
from isola.model.snapshot import InstanceSnapshot


def snapshot_json(
    snapshot: InstanceSnapshot, config: Config, expanded: tuple[Config, Devices], size: int
) -> dict[str, object]:
    """A snapshot as the API documents it; ``size`` is -1 if it is unknown."""
    then = snapshot.instance
    return {
        "name": snapshot.name,
        "architecture": then.architecture,
        "config": dict(config),
        "created_at": moment(snapshot.created_at),
        "expires_at": moment(snapshot.expires_at, UNSET),
        "last_used_at": moment(then.last_used_at),
        "devices": plain(then.devices),
        "ephemeral": then.ephemeral,
        "expanded_config": dict(expanded[0]),
        "expanded_devices": plain(expanded[1]),
        "profiles": list(then.profiles),
        "stateful": snapshot.stateful,
        "size": size,
    }


def snapshot_writable(snapshot: InstanceSnapshot) -> dict[str, object]:
    """The fields that PUT replaces; the entity tag is computed of them."""
    return {"expires_at": moment(snapshot.expires_at, UNSET)}
