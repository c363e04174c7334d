"""All ports: changed by requests as a whole, and carrying connections meanwhile."""

from __future__ import annotations

import contextlib
import resource
import time

from isola.host.published.datagrams import Senders
from isola.host.published.listening import Port
from isola.host.published.loop import Loop
from isola.host.published.message import Endpoint, Request, listen_line
from isola.host.published.shares import Shares
from isola.host.published.streams import Connection, Pipes

_ACCEPTED = 64
"""Clients of one port that are accepted before others get their turn."""
_RESERVED = 256
"""Descriptors for ports' replies, pipes and the daemon, at least."""


class Refused(Exception):
    """The request cannot be carried out; nothing has changed."""


class Forwarding:
    """The ports by where they listen."""

    def __init__(self, loop: Loop, *, room: int | None = None) -> None:
        self._loop = loop
        self._ports: dict[Endpoint, Port] = {}
        self._connections: set[Connection] = set()
        self._connecting: dict[Connection, None] = {}
        self._paused: set[Port] = set()
        self._pipes = Pipes()
        self._shares = Shares(room if room is not None else _room())
        loop.every_second(self._tick)

    @property
    def listeners(self) -> int:
        return len(self._ports)

    @property
    def connections(self) -> int:
        """Of streams and of datagrams."""
        return self._shares.total

    def lines(self) -> list[str]:
        """A ``listen`` line for each port."""
        return [listen_line(port.owner, port.endpoint, port.target) for port in self._ports.values()]

    def apply(self, request: Request) -> None:
        """Carry it out. Raises Refused, having changed nothing."""
        leaving = request.yields | request.drop
        for owner, endpoint, _ in request.listen:
            present = self._ports.get(endpoint)
            if present and present.owner != owner and present.owner not in leaving and not request.take:
                raise Refused(f"cannot listen on {shown(endpoint)}: Address already in use")
        made = self._bind(request)
        wanted = {endpoint for _, endpoint, _ in request.listen}
        # From here on nothing fails.
        for endpoint, port in list(self._ports.items()):
            if port.owner in leaving and endpoint not in wanted:
                self._close(port)
        for owner, endpoint, target in request.listen:
            port = self._ports.get(endpoint) or made[endpoint]
            port.owner, port.target = owner, target
        for endpoint, port in made.items():
            self._open(endpoint, port)
        self._shares.owners = len({port.owner for port in self._ports.values()}) or 1
        for connection in [each for each in self._connections if each.owner in request.drop]:
            connection.close()
        now = time.monotonic()
        for connection in list(self._connecting):
            connection.follow(now)
        for port in self._ports.values():
            if isinstance(port.senders, Senders):
                port.senders.forget(lambda sender: sender.owner in request.drop)

    def _bind(self, request: Request) -> dict[Endpoint, Port]:
        made: dict[Endpoint, Port] = {}
        try:
            for owner, endpoint, target in request.listen:
                if endpoint not in self._ports and endpoint not in made:
                    made[endpoint] = Port(owner, endpoint, target)
        except OSError as error:
            for port in made.values():
                port.socket.close()
            raise Refused(str(error.strerror or error)) from error
        return made

    def _open(self, endpoint: Endpoint, port: Port) -> None:
        self._ports[endpoint] = port
        if port.streams:
            self._loop.watch(port.socket.fileno(), lambda _: self._accept(port))
        else:
            port.senders = Senders(self._loop, port, self._shares)

    def _close(self, port: Port) -> None:
        del self._ports[port.endpoint]
        self._paused.discard(port)
        self._loop.forget(port.socket.fileno())
        if isinstance(port.senders, Senders):
            port.senders.forget(lambda sender: True)
        port.socket.close()

    def _accept(self, port: Port) -> None:
        for _ in range(_ACCEPTED):
            if not self._shares.admits(port.owner):
                self._pause(port)
                return
            try:
                client, _ = port.socket.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # no descriptors, no memory
                self._pause(port)
                return
            client.setblocking(False)
            connection = Connection(self._loop, port, client, self._pipes, self._ended)
            self._shares.take(connection.charged)
            self._connections.add(connection)
            self._connecting[connection] = None
            connection.connect(time.monotonic())

    def _ended(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._connecting.pop(connection, None)
        self._shares.release(connection.charged)
        if self._paused:
            self._loop.soon(self._go_on)

    def _pause(self, port: Port) -> None:
        if port not in self._paused:
            self._paused.add(port)
            self._loop.forget(port.socket.fileno())

    def _go_on(self) -> None:
        for port in [each for each in self._paused if self._shares.admits(each.owner)]:
            self._paused.discard(port)
            self._loop.watch(port.socket.fileno(), lambda _, port=port: self._accept(port))  # type: ignore[misc]

    def _tick(self, now: float) -> None:
        self._go_on()
        for connection in list(self._connecting):
            if connection.deadline == 0.0:
                del self._connecting[connection]
            else:
                connection.expire(now)
        for port in self._ports.values():
            if isinstance(port.senders, Senders):
                port.senders.expire(now)


def shown(endpoint: Endpoint) -> str:
    """As in messages."""
    return "{}:{}:{}".format(*endpoint)


def _room() -> int:
    """How many connections, of two descriptors each."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    now = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(16, (min(now, 1 << 20) - _RESERVED) * 2 // 5)
