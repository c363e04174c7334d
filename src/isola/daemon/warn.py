"""What the daemon warns of once it has looked at its parts."""

from __future__ import annotations

from isola.errors import IsolaError
from isola.model.reference import Entity, Kind
from isola.model.warning import WarningType
from isola.network import Networks
from isola.storage import Pools
from isola.warnings import Warnings


def warn_of_pools(pools: Pools, warnings: Warnings) -> None:
    """Of each that cannot be used, and no longer of each that can."""
    for pool in pools:
        _say(warnings, WarningType.POOL_UNAVAILABLE, pool.entity, pools.closed.get(pool.name))


def warn_of_networks(networks: Networks, warnings: Warnings) -> None:
    """The same."""
    for network in networks:
        entity = Entity.of(Kind.NETWORK, network.ref)
        _say(warnings, WarningType.NETWORK_UNAVAILABLE, entity, networks.down.get(network.ref))


def _say(warnings: Warnings, type: WarningType, entity: Entity, error: IsolaError | None) -> None:
    if error is not None:
        warnings.report(type, entity, str(error))
    else:
        warnings.resolve(type, entity)
