"""Operations on networks, one at a time per network."""

from __future__ import annotations

from collections.abc import Callable

from isola.model.caller import DAEMON, Caller
from isola.model.network import Network
from isola.model.reference import Entity, Kind, Ref
from isola.network.networks import Networks
from isola.operations import Operation, Operations, alone


class NetworkVerbs:
    """Each returns its running operation at once. ``project`` is that of the caller's request."""

    def __init__(self, networks: Networks, operations: Operations) -> None:
        self._networks = networks
        self._operations = operations

    def create(self, network: Network, *, caller: Caller = DAEMON, project: str | None = None) -> Operation:
        """A new network."""
        return alone(
            self._operations,
            "Creating network",
            network.entity,
            lambda op: self._networks.create(op, network),
            caller=caller,
            project=project,
        )

    def update(
        self, ref: Ref, decide: Callable[[Network], Network], *, caller: Caller = DAEMON, project: str | None = None
    ) -> Operation:
        """A new configuration."""
        return alone(
            self._operations,
            "Updating network",
            _entity(ref),
            lambda op: self._networks.update(op, ref, decide),
            caller=caller,
            project=project,
        )

    def rename(self, ref: Ref, new: str, *, caller: Caller = DAEMON, project: str | None = None) -> Operation:
        """Another name."""
        return alone(
            self._operations,
            "Renaming network",
            _entity(ref),
            lambda op: self._networks.rename(op, ref, new),
            caller=caller,
            project=project,
        )

    def delete(self, ref: Ref, *, caller: Caller = DAEMON, project: str | None = None) -> Operation:
        """Take it down."""
        return alone(
            self._operations,
            "Deleting network",
            _entity(ref),
            lambda op: self._networks.delete(op, ref),
            caller=caller,
            project=project,
        )

    def adopt(self, name: str, *, caller: Caller = DAEMON) -> Operation:
        """Restore the record of an unknown network."""
        entity = Entity.of_host(Kind.NETWORK, name)
        return alone(
            self._operations, "Adopt unknown network", entity, lambda op: self._networks.adopt(op, name), caller=caller
        )

    def remove_unknown(self, name: str, *, caller: Caller = DAEMON) -> Operation:
        """Remove a network without a record."""
        entity = Entity.of_host(Kind.NETWORK, name)
        return alone(
            self._operations,
            "Remove unknown network",
            entity,
            lambda op: self._networks.remove_unknown(op, name),
            caller=caller,
        )


def _entity(ref: Ref) -> Entity:
    return Entity.of(Kind.NETWORK, ref)
