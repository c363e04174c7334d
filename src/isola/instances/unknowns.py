"""Instances on the host without a record. They keep their ids, addresses, volumes and layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from isola.devices.uses import Home
from isola.instances.uses import unknown_uses
from isola.model.instance import Unknown
from isola.model.reference import Entity, Kind
from isola.state import References


class Unknowns(Mapping[str, Unknown]):
    """By id. The resources that they use are in the index of references, as for other holders."""

    def __init__(self, references: References, home: Home) -> None:
        self._references = references
        self._home = home
        self._held: dict[str, Unknown] = {}

    def __getitem__(self, id: str) -> Unknown:
        return self._held[id]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._held))

    def __len__(self) -> int:
        return len(self._held)

    def replace(self, found: Mapping[str, Unknown]) -> None:
        """Replace all entries."""
        for id in list(self._held):
            self.forget(id)
        for id, unknown in found.items():
            self._held[id] = unknown
            self._references.hold(entity_of(unknown), mentions=unknown_uses(self._home, unknown))

    def forget(self, id: str) -> None:
        """Remove one that has a record now or is no longer on the host; no effect if it is not listed."""
        if (unknown := self._held.pop(id, None)) is not None:
            self._references.hold(entity_of(unknown))


def entity_of(unknown: Unknown) -> Entity:
    """Its entity as a holder of references."""
    return Entity.of_host(Kind.UNKNOWN, unknown.id)
