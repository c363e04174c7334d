"""Where a blob can be fetched from: the seam between downloads and the clients of registries and image servers."""

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
    """Bytes of a blob from ``offset`` on, to its end."""

    offset: int
    blocks: AsyncIterator[bytes]


class BlobSource(Protocol):
    """One place that has a blob, with what it takes to be let in there."""

    def open(self, offset: int) -> AbstractAsyncContextManager[Stream]:
        """Read from ``offset`` on where the place can do that, from the beginning otherwise (``Stream.offset``).

        Raises HostFailure for a broken connection, also while ``blocks`` are read: it is opened again, at what is
        there by then. Every other error is final: NotFound, Forbidden, InvalidInput.
        """
        ...


def range_header(offset: int) -> Mapping[str, str]:
    """Headers of an HTTP request for what follows ``offset``.

    Without any compression of the transfer: the offset counts the blob's own bytes.
    """
    return {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})


def body_offset(status: int, headers: Mapping[str, str], asked: int) -> int | None:
    """Where the body of an HTTP answer begins in the blob; None where there is nothing behind what was ``asked`` for.

    ``headers`` in lower case. Raises HostFailure for an answer that is neither 200, 206 nor 416.
    """
    if status == _OK:
        return 0
    if status == _NOT_SATISFIABLE and asked:
        return None
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if status != _PARTIAL or found is None or int(found[1]) > asked:
        raise HostFailure(
            "The server gave a wrong answer to a request for a part",
            evidence=f"status {status}, Content-Range {headers.get('content-range', '')[:80]!r}",
            remedy="try again later",
        )
    return int(found[1])
