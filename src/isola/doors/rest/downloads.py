"""Downloads: files sent unchanged from disk, a single one or several as multipart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from isola.doors.rest.request import Request

_BLOCK = 2**20
_BINARY = "application/octet-stream"


async def send_file(name: str, path: Path) -> web.StreamResponse:
    """One file, by sendfile."""
    headers = {"Content-Type": _BINARY, "Content-Disposition": f"inline;filename={quote(name)}"}
    return web.FileResponse(path, headers=headers)


async def send_pieces(request: Request, name: str, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """A file of unknown size, made while it is sent; its errors before the first piece are responses of their own."""
    first = b"" if request.http.method == "HEAD" else await anext(pieces)
    headers = {"Content-Type": _BINARY, "Content-Disposition": f"inline;filename={quote(name)}"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request.http)
    if first:
        await response.write(first)
        async for piece in pieces:
            await response.write(piece)
    await response.write_eof()
    return response


async def send_parts(request: Request, parts: Sequence[tuple[str, str, Path]]) -> web.StreamResponse:
    """Several files, each a form field: (field, file name, path)."""
    boundary = request.services.host.clock.token(24)
    heads = [_head(boundary, field, name) for field, name, _ in parts]
    tail = f"\r\n--{boundary}--\r\n".encode()
    sizes = [(await asyncio.to_thread(path.stat)).st_size for _, _, path in parts]
    response = web.StreamResponse(headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
    response.content_length = sum(map(len, heads)) + sum(sizes) + len(tail)
    await response.prepare(request.http)
    if request.http.method != "HEAD":
        for head, (_, _, path) in zip(heads, parts, strict=True):
            await response.write(head)
            async for block in read_blocks(path):
                await response.write(block)
        await response.write(tail)
    await response.write_eof()
    return response


async def read_blocks(path: Path) -> AsyncIterator[bytes]:
    """A file in blocks of a MiB, read in a thread."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while block := await asyncio.to_thread(file.read, _BLOCK):
            yield block
    finally:
        await asyncio.to_thread(file.close)


def _head(boundary: str, field: str, name: str) -> bytes:
    start = "" if field == "metadata" else "\r\n"
    return (
        f'{start}--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{quote(name)}"\r\n'
        f"Content-Type: {_BINARY}\r\n\r\n"
    ).encode()
