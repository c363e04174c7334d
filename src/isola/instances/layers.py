"""Unpacked image layers: kept while an image or an instance needs them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager

from isola.errors import IsolaError
from isola.instances.unknowns import Unknowns
from isola.instances.uses import layers_of
from isola.model.instance import Start
from isola.model.reference import Entity, Kind
from isola.state import References
from isola.storage import Pools, VolumeDriver

log = logging.getLogger(__name__)
_ROOTS = (Kind.INSTANCE, Kind.INSTANCE_SNAPSHOT, Kind.UNKNOWN)
"""Kinds with a root volume, which depends on layers only if the pool shares them."""


class Layers:
    """The layers in all pools."""

    def __init__(self, pools: Pools, references: References, unknown: Unknowns) -> None:
        self._pools = pools
        self._references = references
        self._unknown = unknown

    def reserved(self, id: str, start: Start) -> AbstractContextManager[None]:
        """Within this context, the layers of an instance that has no record yet are kept."""
        return self._references.holding(Entity.of_host(Kind.OPERATION, id), layers_of(start))

    async def drop_unused(self, layers: Collection[str], *, but: Entity | None = None) -> None:
        """Remove those of the layers that are not used any more, except by the instance ``but``, from all pools."""
        for pool in self._pools:
            try:
                if not any(each.pool == pool.name and each.instance is None for each in self._unknown.values()):
                    await self._drop(self._pools.driver(pool.name), layers, but)
            except IsolaError as error:
                log.error("Storage pool %s: %s", pool.name, error)

    async def _drop(self, driver: VolumeDriver, layers: Collection[str], but: Entity | None) -> None:
        def needs(holder: Entity) -> bool:
            return holder != but and (driver.capabilities.shared_layers or holder.kind not in _ROOTS)

        def needed() -> Iterator[tuple[str, ...]]:
            for stack, holders in self._references.of_kind(Kind.IMAGE_LAYERS):
                if any(map(needs, holders)):
                    yield stack.names

        await driver.layers.delete_unused(layers, needed)
