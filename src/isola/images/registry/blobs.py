"""Blobs of a registry, read from any position."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isola.images.registry.failures import failure
from isola.images.registry.session import Session, pull_scope
from isola.images.remote import Stream, body_offset, range_header


class RegistryBlob:
    """One blob of a repository."""

    def __init__(self, session: Session, path: str, digest: str) -> None:
        self._session = session
        self._path = path
        self._digest = digest

    @asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[Stream]:
        """Raises HostFailure if the connection breaks or the server fails; other errors are final."""
        where = f"{self._path}/blobs/{self._digest}"
        scope = pull_scope(self._path)
        async with self._session.request("GET", where, scope, headers=range_header(offset)) as response:
            if response.status >= 400 and response.status != 416:
                raise await failure(response, f"blob {self._digest[7:19]} of {self._path}")
            at = body_offset(response.status, response.headers, offset)
            yield Stream(offset, _nothing()) if at is None else Stream(at, response.blocks)


async def _nothing() -> AsyncIterator[bytes]:
    for _ in range(0):
        yield b""
