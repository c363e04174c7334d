"""Profiles."""

from __future__ import annotations

from collections.abc import Sequence

from isola.doors.rest.shapes.instances import plain
from isola.model.profile import Profile


def profile_json(profile: Profile, used_by: Sequence[str]) -> dict[str, object]:
    return {"name": profile.name, "used_by": list(used_by), "project": profile.project, **writable(profile)}


def writable(profile: Profile) -> dict[str, object]:
    """The fields that PUT replaces; the entity tag is computed of them."""
    return {
        "config": dict(profile.config),
        "description": profile.description,
        "devices": plain(profile.devices),
    }
