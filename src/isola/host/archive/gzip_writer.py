"""Writes gzip whose bytes depend on the content alone."""

from __future__ import annotations

from types import TracebackType
from typing import BinaryIO

from isal import isal_zlib

_LEVEL = 2
"""Equal on all processors with SSE 4.2, as level 3 is not."""
_GZIP = 31
_PIECE = 1 << 20


class GzipWriter:
    """What the library writes depends on how its input is divided, so it gets pieces of one size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._compressor = isal_zlib.compressobj(_LEVEL, wbits=_GZIP)
        self._waiting = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        """Raises OSError."""
        self._waiting += data
        if len(self._waiting) >= _PIECE:
            whole = len(self._waiting) - len(self._waiting) % _PIECE
            with memoryview(self._waiting) as view:
                for start in range(0, whole, _PIECE):
                    self._file.write(self._compressor.compress(view[start : start + _PIECE]))
            del self._waiting[:whole]

    def close(self) -> None:
        """Write the rest; the file stays open. Raises OSError."""
        self._file.write(self._compressor.compress(self._waiting) + self._compressor.flush())
        self._waiting.clear()

    def __enter__(self) -> GzipWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
