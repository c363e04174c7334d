"""Files that ADD takes from HTTP servers."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from isola.builds.parts import Job
from isola.errors import HostFailure, InvalidInput, NotFound, TooLarge
from isola.host import Host
from isola.host.http import HttpRequest

LARGEST = 16 << 30
"""Bytes."""
_BATCH = 4 << 20


async def fetched(job: Job, address: str, checksum: str = "") -> Path:
    """The file, in a directory of its own. Raises InvalidInput (a wrong checksum), NotFound, HostFailure."""
    place = job.place / f"fetched-{hashlib.sha256(address.encode()).hexdigest()[:32]}"
    path, files = place / _name(address), job.parts.context.host.files
    if not await files.exists(path):
        await files.make_directory(place, mode=0o755)
        part = job.temporary("download")
        job.modified[path] = await receive(job.parts.context.host, address, part, LARGEST)
        await files.rename(part, path)
    if checksum:
        algorithm, _, wanted = checksum.partition(":")
        found, _ = await files.digest(path, algorithm=algorithm)
        if found != wanted:
            raise InvalidInput(
                f"digest mismatch {algorithm}:{found}: {checksum}", evidence=address[:200], field="dockerfile"
            )
    return path


async def receive(host: Host, address: str, path: Path, most: int) -> int:
    """Write it to a new file; returns its time, in seconds since 1970. Raises NotFound, HostFailure, TooLarge."""
    async with host.http.exchange(HttpRequest("GET", address)) as response:
        if response.status != 200:
            kind = NotFound if response.status == 404 else HostFailure
            raise kind(f"failed to GET {address[:200]} with status {response.status}")
        await _write(host, path, response.blocks, most)
        return _modified(response.headers.get("last-modified", ""))


async def _write(host: Host, path: Path, blocks: AsyncIterator[bytes], most: int) -> None:
    files, size, pending = host.files, 0, bytearray()
    await files.write(path, b"", durable=False)
    async for block in blocks:
        pending += block
        if size + len(pending) > most:
            raise TooLarge(f"The file has more than {most} bytes", field="dockerfile")
        if len(pending) >= _BATCH:
            await files.extend(path, bytes(pending), at=size)
            size += len(pending)
            pending.clear()
    await files.extend(path, bytes(pending), at=size)


def _modified(text: str) -> int:
    """What the server does not say is 1970, as with Docker: the time of the build would change the layer."""
    try:
        return max(int(parsedate_to_datetime(text).timestamp()), 0)
    except (ValueError, OverflowError):
        return 0


def _name(address: str) -> str:
    """The last part of the path."""
    name = unquote(urlsplit(address).path).rpartition("/")[2]
    if not name or name in (".", "..") or "\0" in name or len(name.encode()) > 255:
        raise InvalidInput(f"cannot determine filename from url: {address[:200]}", field="dockerfile")
    return name
