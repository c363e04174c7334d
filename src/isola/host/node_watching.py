"""Notification by the kernel when files come and go by their paths, by one inotify instance for all who ask.

The deepest directory of a path that exists is watched: those below it may come with the file, as ``/dev/serial/by-id``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from isola.errors import HostFailure, NotFound
from isola.host.inotify import (
    CREATE,
    DELETE,
    IGNORED,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    ONLYDIR,
    OVERFLOW,
    Event,
    Inotify,
)

_MASK = MOVED_FROM | MOVED_TO | CREATE | DELETE | MOVE_SELF | ONLYDIR
log = logging.getLogger(__name__)
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
        self._directories: dict[int, _Directory] = {}
        self._inotify = Inotify(self._take, self._directories.clear)

    def follow(self, path: Path, on_change: Callback) -> Callable[[], None]:
        """Call ``on_change`` when the file may have come or gone. Returns the function that ends it.

        Raises HostFailure.
        """
        follower = _Follower(path, on_change)
        self._arm(follower)
        return partial(self._disarm, follower)

    def _arm(self, follower: _Follower) -> None:
        """Again from below if a directory came while its parent was being watched."""
        self._disarm(follower)
        while True:
            watch, below = self._deepest(follower.path)
            if below == follower.path or not below.is_dir():
                break
        follower.watch, follower.name = watch, below.name
        found = self._directories.setdefault(watch, _Directory())
        found.by_name.setdefault(below.name, set()).add(follower)

    def _deepest(self, path: Path) -> tuple[int, Path]:
        """The watch of the deepest directory above that exists, and what is followed in it."""
        below = path
        for directory in path.parents:
            try:
                return self._watch(directory), below
            except NotFound:
                below = directory
        raise HostFailure(f"{path} cannot be followed")

    def _watch(self, directory: Path) -> int:
        """Raises NotFound, HostFailure."""
        return self._inotify.add(directory, _MASK)

    def _disarm(self, follower: _Follower) -> None:
        found = self._directories.get(follower.watch)
        if found is None or follower not in found.by_name.get(follower.name, ()):
            return
        found.by_name[follower.name].discard(follower)
        if not found.by_name[follower.name]:
            del found.by_name[follower.name]
        if not found.by_name:
            del self._directories[follower.watch]
            self._inotify.remove(follower.watch)

    def _take(self, events: Sequence[Event]) -> None:
        concerned: dict[_Follower, None] = {}
        for watch, mask, name in events:
            chosen = list(self._directories) if mask & OVERFLOW else [watch]
            for found in [self._directories[each] for each in chosen if each in self._directories]:
                whole = mask & (OVERFLOW | IGNORED | MOVE_SELF)
                concerned |= dict.fromkeys(found.all() if whole else found.by_name.get(name, ()))
            if mask & IGNORED:  # the directory was removed, and the kernel has forgotten the watch
                self._directories.pop(watch, None)
        for follower in concerned:
            try:
                self._arm(follower)
            except HostFailure as error:  # it is not followed any more; the others are
                log.warning("%s is not followed any more: %s", follower.path, error)
            follower.on_change()
