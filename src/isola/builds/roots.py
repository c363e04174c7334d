"""Layers of a build in the pool of its containers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from isola.builds.parts import Job, Result
from isola.errors import TooLarge
from isola.host.archive.archives import LayerReport
from isola.images.compose import store_layer
from isola.model.image import Layer
from isola.storage import VolumeDriver


def driver_of(job: Job) -> VolumeDriver:
    """Of the pool. Raises NotFound."""
    return job.parts.context.pools.driver(job.pool)


async def unpacked(job: Job, result: Result) -> None:
    """All layers are in the pool."""
    blobs = dict(zip(result.keys, result.layers, strict=True))

    async def unpack(key: str, target: Path) -> None:
        await job.parts.context.images.unpack_layer(blobs[key], target)

    await driver_of(job).layers.ensure(job.op, result.keys, unpack)
    await job.parts.context.images.check_layers(result.layers)


@asynccontextmanager
async def root_of(job: Job, result: Result) -> AsyncIterator[Path | None]:
    """The tree of the layers, to be read; None without layers."""
    if not result.layers:
        yield None
        return
    await unpacked(job, result)
    async with driver_of(job).layered(result.keys) as tree:
        yield tree


async def written(job: Job, write: Callable[[Path, str], Awaitable[LayerReport | None]]) -> Layer | None:
    """Bring what ``write`` packs with a compression into the store; None if there is nothing in it."""
    compression = job.parts.context.images.compression
    store = job.parts.context.images.store
    file = store.scratch / f"build-{job.parts.context.host.clock.token(8)}"
    try:
        report = await write(file, compression)
        if report is None or not report.entries:
            return None
        return await store_layer(job.intake, file, report.diff_id, compression)
    finally:
        await job.parts.context.host.files.remove_tree(file)


def with_layer(result: Result, layer: Layer | None, most: int) -> tuple[Layer, ...]:
    """Raises TooLarge."""
    layers = (*result.layers, layer) if layer is not None else result.layers
    if layer is not None and len(layers) > most:
        raise TooLarge(f"The image has more than {most} layers", field="dockerfile")
    return layers
