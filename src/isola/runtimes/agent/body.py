"""Bodies of the agent's protocol: little-endian numbers, and texts and lists with their length before them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import TypeVar

from isola.runtimes.agent.wire import broken

T = TypeVar("T")
MAX_ITEMS = 65536
MAX_TEXT = 256 << 10


class Writer:
    """Appends values. Raises struct.error for a number out of its range."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def done(self) -> bytes:
        return b"".join(self._parts)

    def raw(self, data: bytes) -> Writer:
        """Without a length."""
        self._parts.append(data)
        return self

    def number(self, form: str, *values: int) -> Writer:
        """``form`` has a letter of ``struct`` for each value: B H I Q q."""
        return self.raw(struct.pack("<" + form, *values))

    def flag(self, value: bool) -> Writer:
        return self.number("B", value)

    def text(self, value: str | bytes) -> Writer:
        """Surrogate escapes become the bytes they stand for."""
        data = os.fsencode(value) if isinstance(value, str) else value
        return self.number("I", len(data)).raw(data)

    def items(self, values: Iterable[T], write: Callable[[Writer, T], object]) -> Writer:
        """A list, each item by ``write``."""
        kept = tuple(values)
        self.number("I", len(kept))
        for value in kept:
            write(self, value)
        return self

    def texts(self, values: Iterable[str]) -> Writer:
        return self.items(values, Writer.text)


class Reader:
    """Takes values from an untrusted body. Raises HostFailure if something is missing, too large or left over."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, size: int) -> bytes:
        """So many bytes."""
        if size > len(self._data) - self._at:
            raise broken("a body that is too short")
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.raw(len(self._data) - self._at)

    def numbers(self, form: str) -> tuple[int, ...]:
        """In the layout of ``Writer.number``."""
        layout = struct.Struct("<" + form)
        return layout.unpack(self.raw(layout.size))

    def number(self, form: str) -> int:
        return self.numbers(form)[0]

    def data(self, longest: int = MAX_TEXT) -> bytes:
        """Bytes with their length."""
        size = self.number("I")
        if size > longest:
            raise broken(f"a text of {size} bytes")
        return self.raw(size)

    def text(self, longest: int = MAX_TEXT) -> str:
        """Bytes that are not UTF-8 are replaced."""
        return self.data(longest).decode("utf-8", "replace")

    def items(self, read: Callable[[Reader], T], most: int = MAX_ITEMS) -> tuple[T, ...]:
        """A list, each item by ``read``."""
        count = self.number("I")
        if count > most:
            raise broken(f"a list of {count} items")
        return tuple(read(self) for _ in range(count))

    def end(self) -> None:
        """Raises HostFailure if bytes are left."""
        if self._at != len(self._data):
            raise broken("a body that is too long")
