"""Content and listings in pieces, as the real ports give them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from isola.host.files import Entry

BLOCK = 256 * 1024
_PIECE = 4096


async def piece(entries: tuple[tuple[str, Entry], ...]) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
    if entries:
        yield entries


async def pieces(names: Sequence[str]) -> AsyncIterator[tuple[str, ...]]:
    for start in range(0, len(names), _PIECE):
        yield tuple(names[start : start + _PIECE])


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), BLOCK):
        yield data[start : start + BLOCK]
