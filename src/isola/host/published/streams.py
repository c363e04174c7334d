"""One connection: both of its directions, each with its own end. Large amounts are moved without copying them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct

from isola.host.published.listening import Port
from isola.host.published.loop import BOTH, READABLE, WRITABLE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 65536
_PIPE = 1 << 20
"""Bytes in the kernel between two connections that carry much."""
_KEPT_PIPES = 32
_ROUNDS = 8
"""Pieces that one direction moves before others get their turn."""
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_ABORT = struct.pack("ii", 1, 0)
_CONNECTED = (0, errno.EISCONN)
_PENDING = (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN)
CONNECT_SECONDS = 10.0


class Pipes:
    """Pipes that are empty, for the next direction that needs one."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        """Raises OSError if there are no descriptors."""
        if self._free:
            return self._free.pop()
        made = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # the pipes of a user have a limit in all
            fcntl.fcntl(made[1], fcntl.F_SETPIPE_SZ, _PIPE)
        return made

    def give(self, pipe: tuple[int, int], *, empty: bool) -> None:
        """Keep it for others, if nothing is left in it."""
        if empty and len(self._free) < _KEPT_PIPES:
            self._free.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])


class Direction:
    """Data from one socket to another, until its end, which is passed on."""

    __slots__ = ("_held", "_in_pipe", "_pipe", "_pipes", "_source", "_target", "ended", "queued")

    def __init__(self, source: socket.socket, target: socket.socket, pipes: Pipes) -> None:
        self._source = source
        self._target = target
        self._pipes = pipes
        self._held = b""
        """Read, but not written yet."""
        self._pipe: tuple[int, int] | None = None
        self._in_pipe = 0
        self.ended = False
        self.queued = False
        """It will be pumped soon."""

    def pump(self) -> bool:
        """Move what can be moved now; True if there may be more. Raises OSError when an end has been reset."""
        try:
            for _ in range(_ROUNDS):
                if self.ended or not self._round():
                    return False
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Release the pipe."""
        if self._pipe is not None:
            self._pipes.give(self._pipe, empty=self._in_pipe == 0)
            self._pipe = None

    def _round(self) -> bool:
        """False when nothing is left. Raises BlockingIOError when an end is not ready."""
        if self._held:
            self._held = self._held[self._target.send(self._held) :]
            return True
        if self._pipe is not None:
            return self._through(self._pipe)
        data = self._source.recv(_BLOCK)
        if not data:
            return self._end()
        sent = 0
        with contextlib.suppress(BlockingIOError):
            sent = self._target.send(data)
        self._held = data[sent:]
        if len(data) == _BLOCK:
            with contextlib.suppress(OSError):  # without descriptors it is copied
                self._pipe = self._pipes.take()
        return True

    def _through(self, pipe: tuple[int, int]) -> bool:
        if self._in_pipe == 0:
            try:
                self._in_pipe = os.splice(self._source.fileno(), pipe[1], _PIPE, flags=_SPLICE)
            except BlockingIOError:
                self.close()  # others may need it meanwhile
                raise
            if self._in_pipe == 0:
                return self._end()
        self._in_pipe -= os.splice(pipe[0], self._target.fileno(), self._in_pipe, flags=_SPLICE)
        return True

    def _end(self) -> bool:
        self.close()
        self.ended = True
        self._target.shutdown(socket.SHUT_WR)
        return False


class Connection:
    """A client of a port, and the server that it is connected to.

    ``owner`` is whose server that is; ``charged`` is whose share of connections it is of.
    """

    __slots__ = (
        "_closed", "_down", "_loop", "_pipes", "_port", "_server", "_up",
        "charged", "client", "deadline", "owner", "target",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, port: Port, client: socket.socket, pipes: Pipes, closed: Callable[[Connection], None]
    ) -> None:
        self._loop = loop
        self._port = port
        self._pipes = pipes
        self._closed: Callable[[Connection], None] | None = closed
        self._up: Direction | None = None
        self._down: Direction | None = None
        self._server: socket.socket | None = None
        self.client = client
        self.owner = self.charged = port.owner
        self.target = port.target
        self.deadline = 0.0
        """When it has to be connected; 0: it is."""

    def connect(self, now: float) -> None:
        """Begin to connect to the server."""
        self.owner, self.target, self.deadline = self._port.owner, self._port.target, now + CONNECT_SECONDS
        family = socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET
        try:
            server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:
            self.close()
            return
        self._server = server
        for each in (self.client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        problem = server.connect_ex(self.target)
        if problem == errno.EINPROGRESS:
            problem = server.connect_ex(self.target)  # on this host it is connected by now
        if problem in _CONNECTED:
            self._loop.watch(server.fileno(), self._server_ready, BOTH)
            self._connected(server)
        elif problem in _PENDING:
            self._loop.watch(server.fileno(), self._connecting, BOTH)
        else:
            self._failed(now)

    def follow(self, now: float) -> None:
        """Connect to another server, if it is not connected yet and its port has another target now."""
        if self._closed is not None and self.deadline > 0 and self.target != self._port.target:
            self._failed(now)

    def expire(self, now: float) -> None:
        """Give up connecting if that takes too long."""
        if self._closed is not None and 0 < self.deadline <= now:
            self._failed(now)

    def close(self, *, abort: bool = False) -> None:
        """End both sides; with ``abort`` both are reset. No effect if it has ended."""
        if self._closed is None:
            return
        closed, self._closed = self._closed, None
        for direction in (self._up, self._down):
            if direction is not None:
                direction.close()
        for each in (self.client, self._server):
            if each is not None:
                self._loop.forget(each.fileno())
                if abort:
                    with contextlib.suppress(OSError):
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                each.close()
        closed(self)

    def _connecting(self, events: int) -> None:
        server = self._server
        assert server is not None
        if not events & WRITABLE:
            return
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._failed(self.deadline - CONNECT_SECONDS)
            return
        self._loop.handle(server.fileno(), self._server_ready)
        self._connected(server)

    def _connected(self, server: socket.socket) -> None:
        self.deadline = 0.0
        self._up = Direction(self.client, server, self._pipes)
        self._down = Direction(server, self.client, self._pipes)
        self._loop.watch(self.client.fileno(), self._client_ready, BOTH)
        self._pump(self._up)
        self._pump(self._down)

    def _failed(self, now: float) -> None:
        """Try the port's target of now, if it is another one; else there is no server."""
        assert self._server is not None
        self._loop.forget(self._server.fileno())
        self._server.close()
        self._server = None
        if self.target == self._port.target:
            self.close()
        else:
            self.connect(now)

    def _client_ready(self, events: int) -> None:
        self._ready(events, self._up, self._down)

    def _server_ready(self, events: int) -> None:
        self._ready(events, self._down, self._up)

    def _ready(self, events: int, reading: Direction | None, writing: Direction | None) -> None:
        if reading is not None and events & READABLE:
            self._pump(reading)
        if writing is not None and events & WRITABLE:
            self._pump(writing)
        if events & select.EPOLLERR:
            self.close(abort=True)

    def _pump(self, direction: Direction) -> None:
        if self._closed is None:
            return
        try:
            if direction.pump():
                if not direction.queued:
                    direction.queued = True
                    self._loop.soon(lambda: self._again(direction))
                return
        except OSError:
            self.close(abort=True)
            return
        if self._up is not None and self._down is not None and self._up.ended and self._down.ended:
            self.close()

    def _again(self, direction: Direction) -> None:
        direction.queued = False
        self._pump(direction)
