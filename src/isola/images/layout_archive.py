"""Pieces of a tar archive of an OCI image layout, in the order in which they are written."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator

from isola.images.layouts import blob_path
from isola.images.store import ContentStore

END = bytes(2 * tarfile.BLOCKSIZE)


def directories() -> bytes:
    return _header("blobs/", 0, tarfile.DIRTYPE) + _header("blobs/sha256/", 0, tarfile.DIRTYPE)


async def blob(store: ContentStore, digest: str, size: int) -> AsyncIterator[bytes]:
    """``size`` is what the store has of it: the caller has compared them."""
    yield _header(blob_path(digest), size)
    async for piece in store.host.files.blocks(store.path(digest)):
        yield piece
    yield bytes(-size % tarfile.BLOCKSIZE)


def document(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = size, kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info.tobuf(tarfile.PAX_FORMAT)
