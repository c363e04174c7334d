"""Profiles: configuration and devices shared by instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of configuration and devices; later profiles win over earlier, the instance over all."""

    name: str
    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    project: str = DEFAULT_PROJECT

    @property
    def ref(self) -> Ref:
        """Its project and its name."""
        return Ref(self.project, self.name)

    @property
    def entity(self) -> Entity:
        """What events, operations and users of other things name it by."""
        return Entity.of(Kind.PROFILE, self.ref)
