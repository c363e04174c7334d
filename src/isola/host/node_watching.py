"""Notification by the kernel when files come and go by their paths, by one inotify instance for all who ask.

The deepest directory of a path that exists is watched: those below it may come with the file, as ``/dev/serial/by-id``.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import struct
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from isola.errors import HostFailure

_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x800
_OVERFLOW, _IGNORED, _ONLYDIR = 0x4000, 0x8000, 0x01000000
_MASK = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _MOVE_SELF | _ONLYDIR
_HEADER = struct.Struct("iIII")
_ABSENT = (2, 20)
"""ENOENT, ENOTDIR."""
log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)
Callback = Callable[[], object]


@dataclass(slots=True, eq=False)
class _Follower:
    path: Path
    on_change: Callback
    watch: int = -1
    name: str = ""
    """The entry of the watched directory that the path goes through."""


@dataclass(slots=True)
class _Directory:
    by_name: dict[str, set[_Follower]] = field(default_factory=dict)

    def all(self) -> list[_Follower]:
        return [follower for some in self.by_name.values() for follower in some]


class NodeWatching:
    """Watches of one event loop. An event concerns those alone who follow a file of its name."""

    def __init__(self) -> None:
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._directories: dict[int, _Directory] = {}
        self._closing: Callable[[], object] = lambda: None

    def follow(self, path: Path, on_change: Callback) -> Callable[[], None]:
        """Call ``on_change`` when the file may have come or gone. Returns the function that ends it.

        Raises HostFailure.
        """
        self._open()
        follower = _Follower(path, on_change)
        self._arm(follower)
        return partial(self._disarm, follower)

    def _arm(self, follower: _Follower) -> None:
        """Again from below if a directory came while its parent was being watched."""
        self._disarm(follower)
        while True:
            below = follower.path
            for directory in follower.path.parents:
                if (watch := self._watch(directory)) >= 0:
                    break
                below = directory
            if below == follower.path or not below.is_dir():
                break
        follower.watch, follower.name = watch, below.name
        found = self._directories.setdefault(watch, _Directory())
        found.by_name.setdefault(below.name, set()).add(follower)

    def _watch(self, directory: Path) -> int:
        """The same directory has the same number; negative if there is none."""
        watch = _libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
        if watch < 0 and (error := ctypes.get_errno()) not in _ABSENT:
            raise HostFailure(
                f"Cannot watch {directory}", evidence=os.strerror(error), remedy="Raise fs.inotify.max_user_watches"
            )
        return int(watch)

    def _disarm(self, follower: _Follower) -> None:
        found = self._directories.get(follower.watch)
        if found is None or follower not in found.by_name.get(follower.name, ()):
            return
        found.by_name[follower.name].discard(follower)
        if not found.by_name[follower.name]:
            del found.by_name[follower.name]
        if not found.by_name:
            del self._directories[follower.watch]
            _libc.inotify_rm_watch(self._fd, follower.watch)

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        self._directories.clear()
        if self._fd >= 0:
            self._closing()
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            self._loop = None
            raise HostFailure(
                "Cannot watch for devices",
                evidence=os.strerror(ctypes.get_errno()),
                remedy="Raise fs.inotify.max_user_instances",
            )
        self._loop = loop
        self._closing = weakref.finalize(self, os.close, self._fd)
        loop.add_reader(self._fd, self._ready)

    def _ready(self) -> None:
        try:
            events = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        concerned: dict[_Follower, None] = {}
        for watch, mask, name in _parse(events):
            chosen = list(self._directories) if mask & _OVERFLOW else [watch]
            for found in [self._directories[each] for each in chosen if each in self._directories]:
                whole = mask & (_OVERFLOW | _IGNORED | _MOVE_SELF)
                concerned |= dict.fromkeys(found.all() if whole else found.by_name.get(name, ()))
            if mask & _IGNORED:  # the directory was removed, and the kernel has forgotten the watch
                self._directories.pop(watch, None)
        for follower in concerned:
            try:
                self._arm(follower)
            except HostFailure as error:  # it is not followed any more; the others are
                log.warning("%s is not followed any more: %s", follower.path, error)
            follower.on_change()


def _parse(events: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(events):
        watch, mask, _, size = _HEADER.unpack_from(events, at)
        at += _HEADER.size
        yield watch, mask, os.fsdecode(events[at : at + size].rstrip(b"\0"))
        at += size
