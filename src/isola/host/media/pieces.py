"""Bytes with their places: what a sparse file has, and nothing of what it has not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes at an offset of a disk."""

    offset: int
    data: bytes

    def moved(self, by: int) -> Piece:
        return Piece(self.offset + by, self.data)


@dataclass(frozen=True, slots=True)
class Volume:
    """A disk or a partition of ``size`` bytes that is zero but for its pieces."""

    size: int
    pieces: tuple[Piece, ...]

    def whole(self) -> bytes:
        """All of its bytes; for small ones."""
        found = bytearray(self.size)
        for piece in self.pieces:
            found[piece.offset : piece.offset + len(piece.data)] = piece.data
        return bytes(found)


def rounded(size: int, unit: int) -> int:
    """Up to a multiple."""
    return -(-size // unit) * unit


def all_moved(pieces: Iterable[Piece], by: int) -> tuple[Piece, ...]:
    return tuple(piece.moved(by) for piece in pieces)
