"""Unpacked image layers: kept while an image or an instance needs them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from isola.errors import IsolaError
from isola.instances.context import Context
from isola.model.image import layer_keys
from isola.model.instance import Start
from isola.storage import VolumeDriver

log = logging.getLogger(__name__)


def in_use(context: Context, but: str = "") -> frozenset[str]:
    """Layers that instances stand on, those being created and those without a record included.

    The keys that pools keep them under, and the digests of their blobs; both are SHA-256 of different things.
    """
    held = {name for each in context.everybody() if each.id != but for name in names(each.start)}
    return frozenset(held.union(*(names for _, names in context.reserved_layers.elements())))


def names(start: Start) -> tuple[str, ...]:
    """What pools and the content store call the layers of one instance."""
    return (*start.layers, *(blob.digest for blob in start.blobs))


@contextmanager
def reserved(context: Context, start: Start) -> Iterator[None]:
    """Layers of an instance that has no record yet."""
    held = (start.layers, names(start))
    context.reserved_layers[held] += 1
    try:
        yield
    finally:
        context.reserved_layers[held] -= 1


async def drop_unused(context: Context, layers: Collection[str], *, but: str = "") -> None:
    """Remove from every pool those of the layers that nothing needs any more, not counting the instance ``but``."""
    for pool in context.pools:
        try:
            if not any(each.pool == pool.name and each.instance is None for each in context.unknown.values()):
                await _drop(context, context.pools.driver(pool.name), layers, but)
        except IsolaError as error:
            log.error("Storage pool %s: %s", pool.name, error)


async def _drop(context: Context, driver: VolumeDriver, layers: Collection[str], but: str) -> None:
    def needed() -> Iterator[tuple[str, ...]]:
        yield from (layer_keys(image.layers) for image in context.images)
        yield from (stack for stack, _ in context.reserved_layers.elements())
        if driver.capabilities.shared_layers:
            yield from (each.start.layers for each in context.everybody() if each.id != but)

    await driver.layers.delete_unused(layers, needed)
