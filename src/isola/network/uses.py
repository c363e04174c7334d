"""References of a network's record to other entities. Pure."""

from __future__ import annotations

from isola.model.network import Network
from isola.model.project import project_entity
from isola.state.references import Used


def uses(network: Network) -> Used:
    """Its project."""
    return frozenset({project_entity(network.project)})
