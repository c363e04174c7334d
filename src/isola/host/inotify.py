"""The kernel's notification (inotify) when files of directories come, go and change."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from isola.errors import HostFailure, NotFound
from isola.host.stream import DescriptorStream

MODIFY, MOVED_FROM, MOVED_TO, CREATE, DELETE, MOVE_SELF = 0x2, 0x40, 0x80, 0x100, 0x200, 0x800
OVERFLOW, IGNORED, ONLYDIR = 0x4000, 0x8000, 0x01000000
_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Event(NamedTuple):
    """Of a file of a watched directory; after ``OVERFLOW`` anything may have happened in all of them."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One instance for an event loop, opened with the first watch, and again in another loop: there are few of these.

    It is kept without any watch: closing one waits for milliseconds in the kernel.
    """

    def __init__(self, on_events: Callable[[list[Event]], object], on_opened: Callable[[], object]) -> None:
        """``on_opened``: watches of an instance before are gone."""
        self._on_events = on_events
        self._on_opened = on_opened
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: Callable[[], object] = lambda: None

    def add(self, directory: Path, mask: int) -> int:
        """The same directory has the same number; its mask is replaced. Raises NotFound, HostFailure."""
        self._open()
        return _add(self._fd, directory, mask)

    def remove(self, watch: int) -> None:
        """No effect if the directory is gone."""
        _libc.inotify_rm_watch(self._fd, watch)

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._close()
        if self._fd < 0:
            self._fd = _opened()
            self._loop = loop
            self._closing = weakref.finalize(self, os.close, self._fd)
            loop.add_reader(self._fd, self._ready)
            self._on_opened()

    def _close(self) -> None:
        if self._fd >= 0:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._closing()
        self._fd, self._loop = -1, None

    def _ready(self) -> None:
        try:
            events = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        self._on_events(list(_parsed(events)))


async def changes(path: Path, *beside: str) -> AsyncGenerator[None, None]:
    """Yields once at the beginning, then whenever ``path`` may have changed, come or been replaced.

    Also watches files of the names ``beside`` in the same directory. Ends when that directory is removed.
    Raises NotFound if it does not exist.
    """
    stream, names = _stream(path.parent), {path.name, *beside}
    try:
        yield
        while data := await stream.read():
            events = list(_parsed(data))
            if any(event.mask & IGNORED for event in events):
                return
            if any(event.name in names or event.mask & OVERFLOW for event in events):
                yield
    finally:
        stream.close()


def _stream(directory: Path) -> DescriptorStream:
    """The directory is watched instead of a file, which may be created later, or be replaced."""
    fd = _opened()
    try:
        _add(fd, directory, MODIFY | MOVED_TO | CREATE | ONLYDIR)
    except BaseException:
        os.close(fd)
        raise
    return DescriptorStream(fd)


def _opened() -> int:
    fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise HostFailure(
            "Cannot watch files",
            evidence=os.strerror(ctypes.get_errno()),
            remedy="Raise fs.inotify.max_user_instances",
        )
    return int(fd)


def _add(fd: int, directory: Path, mask: int) -> int:
    watch = _libc.inotify_add_watch(fd, os.fsencode(directory), mask)
    if watch < 0:
        error = ctypes.get_errno()
        if error in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound(f"There is no directory {directory}")
        raise HostFailure(
            f"Cannot watch {directory}", evidence=os.strerror(error), remedy="Raise fs.inotify.max_user_watches"
        )
    return int(watch)


def _parsed(events: bytes) -> Iterator[Event]:
    at = 0
    while at < len(events):
        watch, mask, _, size = _HEADER.unpack_from(events, at)
        at += _HEADER.size
        yield Event(watch, mask, os.fsdecode(events[at : at + size].rstrip(b"\0")))
        at += size
