"""Sources of blobs: the interface between downloads and the clients of registries and image servers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from isola.errors import HostFailure

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)
_OK, _PARTIAL, _NOT_SATISFIABLE = 200, 206, 416


@dataclass(frozen=True, slots=True)
class Stream:
    """A blob's bytes from ``offset`` to its end."""

    offset: int
    blocks: AsyncIterator[bytes]


class BlobSource(Protocol):
    """A server's copy of a blob, with the credentials to read it."""

    def open(self, offset: int) -> AbstractAsyncContextManager[Stream]:
        """Read from ``offset`` if the server can, else from the start (``Stream.offset``).

        Raises HostFailure for a broken connection, also while ``blocks`` are read: the caller then opens it again at
        the offset reached. All other errors are final: NotFound, Forbidden, InvalidInput.
        """
        ...


def range_header(offset: int) -> Mapping[str, str]:
    """Headers of an HTTP request for the bytes from ``offset``.

    Without Content-Encoding, because the offset counts bytes of the blob itself.
    """
    return {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})


def body_offset(status: int, headers: Mapping[str, str], asked: int) -> int | None:
    """The offset at which the body of an HTTP response starts; None if there are no bytes after the requested one.

    ``headers`` in lower case. Raises HostFailure for a status other than 200, 206 and 416.
    """
    if status == _OK:
        return 0
    if status == _NOT_SATISFIABLE and asked:
        return None
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if status != _PARTIAL or found is None or int(found[1]) > asked:
        raise HostFailure(
            "The server gave a wrong response to a range request",
            evidence=f"status {status}, Content-Range {headers.get('content-range', '')[:80]!r}",
            remedy="try again later",
        )
    return int(found[1])
