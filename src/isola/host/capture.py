"""Output of a running program, read in event loop callbacks, bounded, and reported line by line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections import deque
from collections.abc import Callable

_BLOCK = 65536
_DRAIN = 1 << 20
"""Capacity of a pipe; what is read beyond it was not written by the program that ended."""


class Output(contextlib.AbstractContextManager["Output"]):
    """The reading end of a pipe that a program writes to. ``remote`` is the program's end."""

    def __init__(self, take: Callable[[bytes], None], failed: asyncio.Future[None]) -> None:
        self._fd, self.remote = os.pipe()
        os.set_blocking(self._fd, False)
        self._take = take
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close_remote(self) -> None:
        """Call it after the program has inherited it."""
        if self.remote >= 0:
            os.close(self.remote)
            self.remote = -1

    def drain(self) -> None:
        """Read what the pipe contains now; another process may still have the write end open."""
        left = _DRAIN
        while left > 0 and self._fd >= 0 and (size := self._readable()):
            left -= size

    def close(self) -> None:
        """Close both descriptors; no effect if they are closed."""
        self.close_remote()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> int:
        try:
            data = os.read(self._fd, _BLOCK)
        except BlockingIOError:
            return 0
        if not data:
            self.close()
            return 0
        try:
            self._take(data)
        except Exception as error:
            self.close()
            if not self._failed.done():
                self._failed.set_exception(error)
        return len(data)


class Head:
    """Keeps all output up to a limit; more is an error."""

    def __init__(self, limit: int, refuse: Callable[[], Exception]) -> None:
        self._parts: list[bytes] = []
        self._left = limit
        self._refuse = refuse

    def take(self, data: bytes) -> None:
        """Keep ``data``. Raises the error that ``refuse`` returns if it exceeds the limit."""
        self._left -= len(data)
        if self._left < 0:
            raise self._refuse()
        self._parts.append(data)

    def content(self) -> bytes:
        return b"".join(self._parts)


class Tail:
    """Keeps at least the last ``limit`` bytes, because the last lines of a failing program matter most."""

    def __init__(self, limit: int) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._limit = limit

    def take(self, data: bytes) -> None:
        """Keep ``data`` and drop the oldest bytes beyond the limit."""
        self._parts.append(data)
        self._size += len(data)
        while self._size - len(self._parts[0]) >= self._limit:
            self._size -= len(self._parts.popleft())

    def content(self) -> bytes:
        return b"".join(self._parts)


class Lines:
    """Splits a stream into lines. A carriage return ends a line too, because progress displays overwrite themselves."""

    _ENDS = re.compile(rb"\r\n|\n|\r")

    def __init__(self, tell: Callable[[str], None], longest: int = _BLOCK) -> None:
        self._tell = tell
        self._rest = b""
        self._longest = longest

    def take(self, data: bytes) -> None:
        """Report all complete lines; a line that is too long is reported in pieces."""
        *lines, self._rest = self._ENDS.split(self._rest + data)
        if len(self._rest) > self._longest:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._say(line)

    def end(self) -> None:
        """Report the remainder after the last line end."""
        rest, self._rest = self._rest, b""
        self._say(rest)

    def _say(self, line: bytes) -> None:
        if line:
            self._tell(line.decode(errors="replace"))
