"""Sending blobs from disk, whole or a range of their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from isola.doors.registry.answers import VERSION, WrongRange
from isola.doors.registry.request import Request
from isola.errors import NotFound
from isola.host.threads import in_thread
from isola.images.repositories import StoredBlob

_BLOCK = 1 << 20
_BYTES = "application/octet-stream"


async def send_blob(request: Request, blob: StoredBlob) -> web.StreamResponse:
    """The blob, or the part that ``Range`` asks for. Raises NotFound, WrongRange."""
    tag = f'"{blob.digest}"'
    headers = {**VERSION, "Docker-Content-Digest": blob.digest, "ETag": tag, "Accept-Ranges": "bytes"}
    if request.http.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    start, end = _range(request.http, blob.size, tag)
    part = (start, end) != (0, blob.size)
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size}"
    response = web.StreamResponse(status=206 if part else 200, headers={**headers, "Content-Type": _BYTES})
    response.content_length = end - start
    if request.http.method == "HEAD":
        await response.prepare(request.http)
        await response.write_eof()
        return response
    file = await in_thread(_open, blob.path, start)
    try:
        await response.prepare(request.http)
        left = end - start
        while left and (block := await in_thread(file.read, min(_BLOCK, left))):
            await response.write(block)
            left -= len(block)
    finally:
        await in_thread(file.close)
    await response.write_eof()
    return response


def _open(path: Path, at: int) -> BinaryIO:
    try:
        file = path.open("rb", 0)
    except FileNotFoundError:
        raise NotFound("blob unknown to registry", field="blob") from None
    file.seek(at)
    return file


def _range(http: web.BaseRequest, size: int, tag: str) -> tuple[int, int]:
    """First byte and the one after the last; of several ranges the whole blob. Raises WrongRange."""
    wanted = http.headers.get("Range", "") if http.method == "GET" else ""
    if not wanted or "," in wanted or http.headers.get("If-Range", tag) != tag:
        return 0, size
    try:
        found = http.http_range
    except ValueError:
        raise WrongRange.of(size) from None
    start, end = found.start or 0, size if found.stop is None else min(found.stop, size)
    if start < 0:
        start = max(size + start, 0)
    if start >= end:
        raise WrongRange.of(size)
    return start, end
