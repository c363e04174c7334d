"""Decompression, with the format detected by content; input and output are limited while they are read."""

from __future__ import annotations

import bz2
import lzma
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from isal import isal_zlib

from isola.errors import InvalidInput, UnsafeArchive

_STEP = 1 << 20
_INPUT = 1 << 18
_BITE = 1 << 12
_MEMORY = 256 << 20
"""Bytes that an xz or zstd stream may request for its dictionary."""
_FREE = 1 << 30
"""Unpacked bytes below which a high compression ratio is accepted."""
_DAMAGED = cast("type[Exception]", isal_zlib.error)
"""Its stub declares an instance."""


class Readable(Protocol):
    """The method of a file that is used here."""

    def read(self, size: int = ..., /) -> bytes: ...


class Hash(Protocol):
    """The method of a hash that is used here."""

    def update(self, data: bytes, /) -> None: ...


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Gzip:
    """gzip with the interface of the other decompressors."""

    def __init__(self) -> None:
        self._inner = isal_zlib.decompressobj(wbits=31)
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # If the output is full, more of it may be buffered although all input was consumed.
        self.needs_input = not self._inner.unconsumed_tail and len(out) < max_length
        return out

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def unpacked(file: Readable, kind: str) -> Iterator[bytes]:
    """The content in blocks. Raises InvalidInput for damaged and truncated streams."""
    try:
        if kind == "":
            while block := file.read(_STEP):
                yield block
        elif kind == "zstd":
            yield from _zstd(file)
        else:
            yield from _frames(file, kind)
    except (_DAMAGED, OSError, lzma.LZMAError, EOFError, ValueError) as error:
        raise InvalidInput(f"The {kind} data is damaged", evidence=str(error)) from error


def _new(kind: str) -> _Decompressor:
    if kind == "gzip":
        return _Gzip()
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(memlimit=_MEMORY)


def _frames(file: Readable, kind: str) -> Iterator[bytes]:
    """One or more concatenated streams; zeros are allowed after the last."""
    decompressor, data = _new(kind), file.read(_INPUT)
    while True:
        out = decompressor.decompress(data, _STEP)
        data = b""
        if out:
            yield out
        if decompressor.eof:
            data = decompressor.unused_data
            while not data.lstrip(b"\0"):
                data = file.read(_INPUT)
                if not data:
                    return
            decompressor = _new(kind)
            data = data.lstrip(b"\0")
        elif decompressor.needs_input:
            data = file.read(_INPUT)
            if not data:
                raise InvalidInput(f"The archive is truncated: its {kind} data has no end")


def _zstd(file: Readable) -> Iterator[bytes]:
    """Input is passed in small pieces, because each may expand by a factor of thirty thousand at once."""
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=_MEMORY // 2)
    decompressor, data, ended = context.decompressobj(), file.read(_BITE), False
    try:
        while data:
            out = decompressor.decompress(data)
            ended = decompressor.eof
            if out:
                yield out
            data = decompressor.unused_data if ended else b""
            if ended:
                decompressor = context.decompressobj()
            data = data or file.read(_BITE)
    except zstandard.ZstdError as error:
        raise InvalidInput("The zstd data is damaged", evidence=str(error)) from error
    if not ended:
        raise InvalidInput("The archive is truncated: its zstd data has no end")


def hashed(blocks: Iterator[bytes], total: Hash | None) -> Iterator[bytes]:
    """Pass the blocks on and hash them in the thread that decompresses, in parallel with the one that unpacks."""
    for block in blocks:
        if total is not None:
            total.update(block)
        yield block


class Counted:
    """A file that counts the bytes read from it."""

    def __init__(self, file: Readable, on_progress: Callable[[int], None]) -> None:
        self._file = file
        self._on_progress = on_progress
        self.total = 0

    def read(self, size: int = -1, /) -> bytes:
        """Like ``BinaryIO.read``."""
        data = self._file.read(size)
        self.total += len(data)
        self._on_progress(self.total)
        return data


class Unpacked:
    """The content as a stream with exact reads, decompressed ahead in a thread, checked against limits."""

    def __init__(self, blocks: Iterator[bytes], packed: Callable[[], int], *, limit: int, ratio: int) -> None:
        self._blocks = _ahead(blocks)
        self._packed = packed
        self._limit = limit
        self._ratio = ratio
        self._block = b""
        self._position = 0
        self.total = 0

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or fewer at the end."""
        position = self._position
        if len(self._block) - position >= size:
            self._position = position + size
            return self._block[position : position + size]
        parts = [self._block[position:]]
        missing = size - len(parts[0])
        self._block, self._position = b"", 0
        while missing:
            block = self._next()
            if not block:
                break
            if len(block) > missing:
                self._block, self._position = block, missing
                block = block[:missing]
            parts.append(block)
            missing -= len(block)
        return b"".join(parts)

    def drain(self) -> None:
        """Read to the end, so that checksums are checked, still within limits."""
        self._block = b""
        while self._next():
            pass

    def _next(self) -> bytes:
        block = next(self._blocks, b"")
        self.total += len(block)
        if self.total > self._limit:
            raise UnsafeArchive("The archive is too large when unpacked", evidence=f"more than {self._limit} bytes")
        if self.total > _FREE and self.total > self._ratio * max(self._packed(), 1):
            raise UnsafeArchive(
                "The archive is a decompression bomb",
                evidence=f"{self._packed()} compressed bytes unpack to more than {self.total}",
            )
        return block


def _ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Work one step ahead in a thread, if there is much to do: decompressors release the interpreter lock."""
    size = 0
    while size < _STEP:
        block = next(blocks, b"")
        if not block:
            return
        size += len(block)
        yield block
    waiting: queue.Queue[bytes | BaseException] = queue.Queue(4)

    def work() -> None:
        try:
            for block in blocks:
                waiting.put(block)
            waiting.put(b"")
        except BaseException as error:
            waiting.put(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        item = waiting.get()
        if isinstance(item, BaseException):
            raise item
        if not item:
            return
        yield item
