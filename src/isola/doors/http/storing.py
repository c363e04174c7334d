"""Bodies of requests that are written to files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import FileIO
from pathlib import Path

from isola.doors import Services
from isola.host.cancellation import finish
from isola.host.exhaustion import host_refused

_BLOCK = 2**20


async def new_scratch(services: Services) -> Path:
    """A new directory in the image sources' scratch space, which is also emptied when the daemon starts."""
    directory = services.images.store.scratch / f"upload-{services.host.clock.token(8)}"
    await services.host.files.make_directory(directory, mode=0o700)
    return directory


@asynccontextmanager
async def stored(services: Services, blocks: AsyncIterator[bytes]) -> AsyncIterator[Path]:
    """A file with the body, removed with its directory at the end. Raises HostFailure."""
    directory = await new_scratch(services)
    try:
        await store(blocks, directory / "upload")
        yield directory / "upload"
    finally:
        await finish(services.host.files.remove_tree(directory))


async def store(blocks: AsyncIterator[bytes], target: Path) -> int:
    """Collect blocks of a MiB and write them in a thread, so as not to block the event loop; returns the size."""
    size = 0
    file = await asyncio.to_thread(_create, target)
    try:
        gathered = bytearray()
        async for block in blocks:
            gathered += block
            if len(gathered) >= _BLOCK:
                size += await asyncio.to_thread(_write_all, file, gathered)
                gathered = bytearray()
        size += await asyncio.to_thread(_write_all, file, gathered)
    finally:
        await asyncio.to_thread(file.close)
    return size


def _write_all(file: FileIO, data: bytearray) -> int:
    """Write all bytes: one write to a raw file may be partial."""
    rest = memoryview(data)
    with _reported():
        while rest:
            rest = rest[file.write(rest) :]
    return len(data)


def _create(target: Path) -> FileIO:
    with _reported():
        return target.open("wb", 0)


@contextmanager
def _reported() -> Iterator[None]:
    """Report write errors as StorageFull or HostFailure."""
    try:
        yield
    except OSError as error:
        raise host_refused("The upload cannot be stored", error) from error
