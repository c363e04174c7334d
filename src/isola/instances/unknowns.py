"""Instances on the host without a record. They keep their ids, addresses, volumes and layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from isola.devices.uses import Home
from isola.instances.uses import unknown_uses
from isola.model.instance import Unknown
from isola.model.reference import Entity, Kind
from isola.state import References


class Unknowns(Mapping[str, Unknown]):
    """By key. The resources that they use are in the index of references, as for other holders."""

    def __init__(self, references: References, home: Home) -> None:
        self._references = references
        self._home = home
        self._held: dict[str, Unknown] = {}
        self.forgotten = 0
        """How many were adopted or removed: what was seen on the host before the last of them is out of date."""

    def __getitem__(self, key: str) -> Unknown:
        return self._held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._held))

    def __len__(self) -> int:
        return len(self._held)

    def replace(self, found: Mapping[str, Unknown]) -> None:
        """Replace all entries."""
        for key in self._held.keys() - found.keys():
            self._drop(key)
        for key, unknown in found.items():
            self._held[key] = unknown
            self._references.hold(entity_of(unknown), mentions=unknown_uses(self._home, unknown))

    def forget(self, key: str) -> None:
        """Remove one that has a record now or is no longer on the host; no effect if it is not listed."""
        self.forgotten += 1
        self._drop(key)

    def _drop(self, key: str) -> None:
        if (unknown := self._held.pop(key, None)) is not None:
            self._references.hold(entity_of(unknown))


def entity_of(unknown: Unknown) -> Entity:
    """Its entity as a holder of references."""
    return Entity.of_host(Kind.UNKNOWN, unknown.key)
