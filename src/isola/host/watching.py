"""Notification by the kernel when files change, by one inotify instance for all who ask: there are few of these."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from isola.errors import HostFailure, NotFound
from isola.host.inotify import CREATE, IGNORED, MODIFY, MOVED_TO, ONLYDIR, OVERFLOW, Event, Inotify

Callback = Callable[[], None]


@dataclass(slots=True)
class _Watched:
    """A directory, with the callbacks for files that are replaced, and those for every change."""

    path: Path
    replaced: dict[int, Callback] = field(default_factory=dict)
    written: dict[int, Callback] = field(default_factory=dict)

    @property
    def mask(self) -> int:
        return MOVED_TO | CREATE | ONLYDIR | (MODIFY if self.written else 0)


class Watching:
    """Watches of one event loop."""

    def __init__(self) -> None:
        self._directories: dict[int, _Watched] = {}
        self._inotify = Inotify(self._take, self._directories.clear)
        self._numbers = itertools.count()

    def add(self, directory: Path, on_change: Callback, *, writes: bool) -> Callable[[], None]:
        """Call ``on_change`` when files of the directory are created or replaced, with ``writes`` also when written.

        Returns the function that ends it. Raises NotFound, HostFailure.
        """
        watch = self._inotify.add(directory, _Watched(directory, {}, {0: on_change} if writes else {}).mask)
        found = self._directories.setdefault(watch, _Watched(directory))
        number = next(self._numbers)
        (found.written if writes else found.replaced)[number] = on_change
        self._inotify.add(directory, found.mask)
        return lambda: self._end(watch, number)

    def _end(self, watch: int, number: int) -> None:
        found = self._directories.get(watch)
        if found is None:
            return
        found.written.pop(number, None)
        found.replaced.pop(number, None)
        if not (found.written or found.replaced):
            del self._directories[watch]
            self._inotify.remove(watch)
        elif not found.written:
            with suppress(NotFound, HostFailure):
                self._inotify.add(found.path, found.mask)

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            chosen = list(self._directories) if event.mask & OVERFLOW else [event.watch]
            for found in [self._directories[each] for each in chosen if each in self._directories]:
                some = () if event.mask == MODIFY else tuple(found.replaced.values())
                for on_change in (*found.written.values(), *some):
                    on_change()
            if event.mask & IGNORED:  # the directory was removed
                self._directories.pop(event.watch, None)
