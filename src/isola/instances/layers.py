"""Unpacked image layers: kept while an image or an instance needs them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from isola.errors import IsolaError
from isola.instances.context import Context
from isola.storage import StorageDriver

log = logging.getLogger(__name__)


def in_use(context: Context) -> frozenset[str]:
    """Digests of the layers that instances stand on, those that are being created included."""
    held = {digest for instance in context.records for digest in instance.start.layers}
    return frozenset(held | set(context.reserved_layers.elements()))


@contextmanager
def reserved(context: Context, layers: tuple[str, ...]) -> Iterator[None]:
    """Layers of an instance that has no record yet."""
    context.reserved_layers.update(layers)
    try:
        yield
    finally:
        context.reserved_layers.subtract(layers)


async def drop_unused(context: Context) -> None:
    """Remove from every pool the layers that nothing needs any more."""
    needed = in_use(context) | {layer.digest for image in context.images for layer in image.layers}
    for pool in context.pools:
        try:
            await _drop(context, context.pools.driver(pool.name), needed)
        except IsolaError as error:
            log.error("Storage pool %s: %s", pool.name, error)


async def _drop(context: Context, driver: StorageDriver, needed: frozenset[str]) -> None:
    for digest in await driver.layers():
        if digest not in needed and digest not in in_use(context):
            await driver.delete_layer(digest)
