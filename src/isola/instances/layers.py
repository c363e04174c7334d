"""Unpacked image layers: kept while an image or an instance needs them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from isola.errors import IsolaError
from isola.instances.context import Context
from isola.model.image import layer_keys
from isola.model.instance import Start
from isola.storage import StorageDriver

log = logging.getLogger(__name__)


def in_use(context: Context, but: str = "") -> frozenset[str]:
    """Layers that instances stand on, those being created and those without a record included.

    The keys that pools keep them under, and the digests of their blobs; both are SHA-256 of different things.
    """
    held = {name for each in context.everybody() if each.id != but for name in names(each.start)}
    return frozenset(held | set(context.reserved_layers.elements()))


def names(start: Start) -> tuple[str, ...]:
    """What pools and the content store call the layers of one instance."""
    return (*start.layers, *(blob.digest for blob in start.blobs))


@contextmanager
def reserved(context: Context, layers: tuple[str, ...]) -> Iterator[None]:
    """Layers (``names``) of an instance that has no record yet."""
    context.reserved_layers.update(layers)
    try:
        yield
    finally:
        context.reserved_layers.subtract(layers)


async def drop_unused(context: Context, layers: Collection[str], *, but: str = "") -> None:
    """Remove from every pool those of the layers that nothing needs any more, not counting the instance ``but``."""
    needed = in_use(context, but) | {key for image in context.images for key in layer_keys(image.layers)}
    for pool in context.pools:
        try:
            if not any(each.pool == pool.name and each.instance is None for each in context.unknown.values()):
                await _drop(context, context.pools.driver(pool.name), set(layers) - needed, but)
        except IsolaError as error:
            log.error("Storage pool %s: %s", pool.name, error)


async def _drop(context: Context, driver: StorageDriver, unneeded: Collection[str], but: str) -> None:
    for digest in await driver.layers() if unneeded else ():
        if digest in unneeded and digest not in in_use(context, but):
            await driver.delete_layer(digest)
