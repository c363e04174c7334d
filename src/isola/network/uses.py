"""References of a network's record to other entities. Pure."""

from __future__ import annotations

from isola.model.network import Network
from isola.model.project import project_entity
from isola.model.reference import Entity, Kind, Ref
from isola.state.references import Used


def uses(network: Network) -> Used:
    """Its project, and the configuration from which it was created."""
    found = {project_entity(network.project)}
    if network.configuration:
        found.add(Entity.of(Kind.NETWORK, Ref(network.project, network.configuration)))
    return frozenset(found)
