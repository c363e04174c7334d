"""Projects: instances and what belongs to them, apart from those of other projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isola.model.instance import EMPTY
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind

FEATURES: Mapping[str, bool] = {
    "features.images": True,
    "features.networks": False,
    "features.profiles": True,
    "features.storage.buckets": True,
    "features.storage.volumes": True,
}
"""What a project may have of its own, and whether a new one has it where the request does not say."""
_FEATURE_OF: Mapping[Kind, str] = {
    Kind.IMAGE: "features.images",
    Kind.IMAGE_ALIAS: "features.images",
    Kind.REPOSITORY: "features.images",
    Kind.NETWORK: "features.networks",
    Kind.PROFILE: "features.profiles",
    Kind.STORAGE_VOLUME: "features.storage.volumes",
    Kind.VOLUME_SNAPSHOT: "features.storage.volumes",
}


@dataclass(frozen=True, slots=True)
class Project:
    """The record of a project."""

    name: str
    description: str = ""
    config: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    """With every feature written out."""

    @property
    def entity(self) -> Entity:
        """What events, operations and users of other things name it by."""
        return project_entity(self.name)

    def home(self, kind: Kind) -> str:
        """The project that its things of a kind live in: itself, or the default one."""
        feature = _FEATURE_OF.get(kind)
        own = feature is None or self.name == DEFAULT_PROJECT or self.config.get(feature) == "true"
        return self.name if own else DEFAULT_PROJECT


def project_entity(name: str) -> Entity:
    """What a thing that lives in a project uses of it."""
    return Entity.of_host(Kind.PROJECT, name)


DEFAULT = Project(DEFAULT_PROJECT, "Default Isola project", dict.fromkeys(FEATURES, "true"))
