"""Uploads, streamed to files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.http import HttpProcessingError

from isola.doors.http.storing import new_scratch, store
from isola.doors.rest.request import Request
from isola.errors import InvalidInput

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
    size = await store(request.blocks(), target)
    if size == 0:
        raise InvalidInput("The body is empty", field="body", remedy="send an image tarball")
    return Upload((target,), "")


async def scratch(request: Request) -> Path:
    """A new directory for an upload; see ``new_scratch``."""
    return await new_scratch(request.services)


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
            await store(_blocks_of(part), files[-1])
    except (ValueError, AssertionError, HttpProcessingError) as error:  # raised by aiohttp for malformed bodies
        raise InvalidInput("The multipart body is malformed", evidence=str(error)[:200], field="body") from None
    if len(files) != len(_PARTS):
        raise InvalidInput("Part 'rootfs' is missing", field="body", remedy="send the parts 'metadata' and 'rootfs'")
    return Upload(tuple(files), filename)


async def _blocks_of(part: BodyPartReader) -> AsyncIterator[bytes]:
    while block := await part.read_chunk(_BLOCK // 4):
        yield block
