"""An event loop of little size: readiness of descriptors, work that goes on, and a tick each second."""

from __future__ import annotations

import collections
import contextlib
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_READ = select.EPOLLIN | select.EPOLLRDHUP
BOTH = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
"""Readable and writable, edge-triggered."""
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
READABLE = _READ | select.EPOLLHUP | select.EPOLLERR
_EVENTS = 512
_TICK = 1.0


class Loop:
    """Handlers are called with events of epoll(7); one that fails loses its descriptor only."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._more: collections.deque[Callable[[], None]] = collections.deque()
        self._ticks: list[Callable[[float], None]] = []
        self._next_tick = time.monotonic() + _TICK

    def watch(self, descriptor: int, handler: Callable[[int], None], events: int = _READ) -> None:
        """Call it when the descriptor is ready; for reading, as long as it is, unless ``events`` says otherwise."""
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, events)

    def handle(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Call another one for a descriptor that is watched."""
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Before it is closed; no effect if it is not watched."""
        if self._handlers.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def soon(self, work: Callable[[], None]) -> None:
        """Call it after others had their turn."""
        self._more.append(work)

    def every_second(self, work: Callable[[float], None]) -> None:
        """Call it with the time."""
        self._ticks.append(work)

    def run(self) -> None:
        """For ever."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Wait for events, and handle them."""
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK
            for tick in self._ticks:
                tick(now)
        for descriptor, events in self._epoll.poll(0 if self._more else self._next_tick - now, _EVENTS):
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler(events)
        for _ in range(len(self._more)):
            self._more.popleft()()
