"""Notification by the kernel when files change, by one inotify instance for all who ask: there are few of these."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import struct
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from isola.errors import HostFailure, NotFound

_MODIFY, _MOVED_TO, _CREATE, _OVERFLOW, _IGNORED = 0x2, 0x80, 0x100, 0x4000, 0x8000
_ONLYDIR = 0x01000000
_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)
Callback = Callable[[], None]


@dataclass(slots=True)
class _Watched:
    """A directory, with the callbacks for files that are replaced, and those for every change."""

    path: Path
    replaced: dict[int, Callback] = field(default_factory=dict)
    written: dict[int, Callback] = field(default_factory=dict)

    @property
    def mask(self) -> int:
        return _MOVED_TO | _CREATE | _ONLYDIR | (_MODIFY if self.written else 0)


class Watching:
    """Watches of one event loop. Its instance is kept without any: closing one waits for milliseconds in the kernel."""

    def __init__(self) -> None:
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._directories: dict[int, _Watched] = {}
        self._numbers = itertools.count()
        self._closing: Callable[[], object] = lambda: None

    def add(self, directory: Path, on_change: Callback, *, writes: bool) -> Callable[[], None]:
        """Call ``on_change`` when files of the directory are created or replaced, with ``writes`` also when written.

        Returns the function that ends it. Raises NotFound, HostFailure.
        """
        self._open()
        watch = self._kernel(directory, _Watched(directory, {}, {0: on_change} if writes else {}).mask)
        found = self._directories.setdefault(watch, _Watched(directory))
        number = next(self._numbers)
        (found.written if writes else found.replaced)[number] = on_change
        self._kernel(directory, found.mask)
        return lambda: self._end(watch, number)

    def _end(self, watch: int, number: int) -> None:
        found = self._directories.get(watch)
        if found is None:
            return
        found.written.pop(number, None)
        found.replaced.pop(number, None)
        if not (found.written or found.replaced):
            del self._directories[watch]
            _libc.inotify_rm_watch(self._fd, watch)
        elif not found.written:
            self._kernel(found.path, found.mask, missing=True)

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._close()
        if self._fd < 0:
            self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
            if self._fd < 0:
                raise _failure("Cannot watch files", "Raise fs.inotify.max_user_instances")
            self._loop = loop
            self._closing = weakref.finalize(self, os.close, self._fd)
            loop.add_reader(self._fd, self._ready)

    def _close(self) -> None:
        if self._fd >= 0:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._closing()
        self._fd, self._loop = -1, None
        self._directories.clear()

    def _kernel(self, directory: Path, mask: int, *, missing: bool = False) -> int:
        """The same directory has the same number; its mask is replaced."""
        watch = _libc.inotify_add_watch(self._fd, os.fsencode(directory), mask)
        if watch < 0 and not missing:
            error = ctypes.get_errno()
            if error == 2:
                raise NotFound(f"There is no directory {directory}")
            raise _failure(f"Cannot watch {directory}", "Raise fs.inotify.max_user_watches", error)
        return int(watch)

    def _ready(self) -> None:
        try:
            events = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        for watch, mask in list(_parse(events)):
            chosen = list(self._directories) if mask & _OVERFLOW else [watch]
            for found in [self._directories[each] for each in chosen if each in self._directories]:
                some = () if mask == _MODIFY else tuple(found.replaced.values())
                for on_change in (*found.written.values(), *some):
                    on_change()
            if mask & _IGNORED:  # the directory was removed
                self._directories.pop(watch, None)


def _parse(events: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(events):
        watch, mask, _, size = _HEADER.unpack_from(events, at)
        at += _HEADER.size + size
        yield watch, mask


def _failure(message: str, remedy: str, error: int | None = None) -> HostFailure:
    return HostFailure(message, evidence=os.strerror(error or ctypes.get_errno()), remedy=remedy)
