"""Uploads, streamed to files."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.http import HttpProcessingError

from isola.doors.rest.request import Request
from isola.errors import HostFailure, InvalidInput

_BLOCK = 2**20
_PARTS = ("metadata", "rootfs")


@dataclass(frozen=True, slots=True)
class Upload:
    """The uploaded files: one, or metadata and root file system."""

    files: tuple[Path, ...]
    filename: str


async def receive(request: Request, directory: Path) -> Upload:
    """Write the body to ``directory``, which the caller removes. Raises InvalidInput."""
    if request.http.content_type.startswith("multipart/"):
        return await _receive_parts(request, directory)
    target = directory / "upload"
    size = await _write(request.blocks(), target)
    if size == 0:
        raise InvalidInput("The body is empty", field="body", remedy="send an image tarball")
    return Upload((target,), "")


async def scratch(request: Request) -> Path:
    """A new directory in the image sources' scratch space, which is also emptied when the daemon starts."""
    services = request.services
    directory = services.images.store.scratch / f"upload-{services.host.clock.token(8)}"
    await services.host.files.make_directory(directory, mode=0o700)
    return directory


async def _receive_parts(request: Request, directory: Path) -> Upload:
    files: list[Path] = []
    filename = ""
    try:
        reader = MultipartReader(request.http.headers, request.http.content)
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader) or len(files) == len(_PARTS):
                raise InvalidInput("Too many parts", field="body", remedy="send the parts 'metadata' and 'rootfs'")
            expected = _PARTS[len(files)]
            if not (part.name or "").startswith(expected):
                raise InvalidInput(f"Part {expected!r} is missing", field="body", remedy="send it in this order")
            filename = part.filename or filename
            files.append(directory / expected)
            await _write(_blocks_of(part), files[-1])
    except (ValueError, AssertionError, HttpProcessingError) as error:  # raised by aiohttp for malformed bodies
        raise InvalidInput("The multipart body is malformed", evidence=str(error)[:200], field="body") from None
    if len(files) != len(_PARTS):
        raise InvalidInput("Part 'rootfs' is missing", field="body", remedy="send the parts 'metadata' and 'rootfs'")
    return Upload(tuple(files), filename)


async def _blocks_of(part: BodyPartReader) -> AsyncIterator[bytes]:
    while block := await part.read_chunk(_BLOCK // 4):
        yield block


async def _write(blocks: AsyncIterator[bytes], target: Path) -> int:
    """Collect blocks of a MiB and write them in a thread, so as not to block the event loop."""
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
    """Report write errors such as a full disk as HostFailure."""
    try:
        yield
    except OSError as error:
        remedy = "free space, for instance by deleting images" if error.errno == errno.ENOSPC else ""
        raise HostFailure("The upload cannot be stored", evidence=str(error), remedy=remedy) from error
