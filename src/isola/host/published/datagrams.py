"""UDP: a socket to the server for each sender, so that replies can be assigned."""

from __future__ import annotations

import contextlib
import socket
import time

from isola.host.published.listening import Port
from isola.host.published.loop import Loop
from isola.host.published.shares import Shares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_Address = tuple["str | int", ...]
_LARGEST = 65536
_TURN = 64
"""Datagrams that are taken before others get their turn."""
IDLE = 60.0
"""Seconds after which a sender is forgotten."""
MOST_SENDERS = 1024
"""Of one port; after that, those that have been idle for longest are forgotten."""


class Sender:
    """A sender, and the socket from which the server hears it."""

    __slots__ = ("address", "owner", "seen", "socket")

    def __init__(self, address: _Address, owner: str, server: socket.socket) -> None:
        self.address = address
        self.owner = owner
        self.socket = server
        self.seen = 0.0


class Senders:
    """Of one port. They are kept in the order of use."""

    def __init__(self, loop: Loop, port: Port, shares: Shares) -> None:
        self._loop = loop
        self._port = port
        self._shares = shares
        self._all: dict[_Address, Sender] = {}
        loop.watch(port.socket.fileno(), self._arrived)

    def __len__(self) -> int:
        return len(self._all)

    def forget(self, wanted: Callable[[Sender], bool]) -> None:
        """Close the sockets of those that are ``wanted``."""
        for sender in [each for each in self._all.values() if wanted(each)]:
            self._remove(sender)

    def expire(self, now: float) -> None:
        """Forget those that are idle."""
        while self._all:
            oldest = next(iter(self._all.values()))
            if now - oldest.seen < IDLE:
                return
            self._remove(oldest)

    def _arrived(self, _events: int) -> None:
        now = time.monotonic()
        for _ in range(_TURN):
            try:
                data, address = self._port.socket.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # what a reply ran into
                continue
            sender = self._sender(address)
            if sender is None:
                continue
            sender.seen = now
            with contextlib.suppress(OSError):  # refused, or no room in a buffer: datagrams may be lost
                sender.socket.send(data)

    def _sender(self, address: _Address) -> Sender | None:
        if (found := self._all.pop(address, None)) is None:
            if len(self._all) >= MOST_SENDERS or (self._all and not self._shares.admits(self._port.owner)):
                self._remove(next(iter(self._all.values())))
            if not self._shares.admits(self._port.owner) or (found := self._made(address)) is None:
                return None
        self._all[address] = found
        return found

    def _made(self, address: _Address) -> Sender | None:
        target = self._port.target
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        try:
            server = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:
            return None
        try:
            server.connect(target)
        except OSError:
            server.close()
            return None
        sender = Sender(address, self._port.owner, server)
        self._shares.take(sender.owner)
        self._loop.watch(server.fileno(), lambda _: self._answered(sender))
        return sender

    def _answered(self, sender: Sender) -> None:
        for _ in range(_TURN):
            try:
                data = sender.socket.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # no program listens there at present
                continue
            with contextlib.suppress(OSError):
                self._port.socket.sendto(data, sender.address)

    def _remove(self, sender: Sender) -> None:
        self._all.pop(sender.address, None)
        self._loop.forget(sender.socket.fileno())
        sender.socket.close()
        self._shares.release(sender.owner)
