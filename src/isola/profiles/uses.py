"""The objects that a profile uses, derived from its record. Pure."""

from __future__ import annotations

from isola.devices.uses import Home, named_by
from isola.model.profile import Profile
from isola.model.project import project_entity
from isola.profiles.profiles import DEFAULT
from isola.state.references import NOTHING, Used


def uses(home: Home, profile: Profile) -> Used:
    """Objects that cannot be removed before it."""
    found = frozenset(named_by(home, profile.project, profile.devices))
    return found if profile.name == DEFAULT else found | {project_entity(profile.project)}


def mentions(profile: Profile) -> Used:
    """The default profile belongs to its project, and is removed with it."""
    return frozenset({project_entity(profile.project)}) if profile.name == DEFAULT else NOTHING
