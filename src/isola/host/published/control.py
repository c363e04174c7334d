"""Requests of the daemon, over a packet socket."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from isola.host.published.forwarding import Forwarding, Refused
from isola.host.published.loop import Loop
from isola.host.published.message import MOST_BYTES, read_request

_PACKET = 65536
_ANSWER_PACKET = 8192
_CLIENTS = 8
_SECONDS = 5.0
_CREDENTIALS = struct.Struct("3i")


def listening(path: str) -> socket.socket:
    """The socket at this path, which may be longer than an address of a socket; only its owner may connect."""
    directory, _, name = path.rpartition("/")
    os.chdir(directory or "/")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    made.bind(name)
    os.umask(before)
    made.listen(_CLIENTS)
    os.chdir("/")
    return made


class Control:
    """Answers one request of each connection."""

    def __init__(self, loop: Loop, door: socket.socket, forwarding: Forwarding, user: int) -> None:
        self._loop = loop
        self._door = door
        self._forwarding = forwarding
        self._user = user
        self.clients = 0
        loop.watch(door.fileno(), self._accept)

    def _accept(self, _events: int) -> None:
        try:
            client, _ = self._door.accept()
        except OSError:
            return
        options = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if self.clients >= _CLIENTS or _CREDENTIALS.unpack(options)[1] != self._user:
            client.close()
            return
        client.setblocking(False)
        self.clients += 1
        received = bytearray()
        self._loop.watch(client.fileno(), lambda _: self._receive(client, received))

    def _receive(self, client: socket.socket, received: bytearray) -> None:
        try:
            data = client.recv(_PACKET)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        received += data
        if data and len(received) <= MOST_BYTES and not received.endswith((b"apply\n", b"list\n")):
            return
        self._loop.forget(client.fileno())
        self.clients -= 1
        with client:
            if data:
                self._answer(client, received)

    def _answer(self, client: socket.socket, received: bytearray) -> None:
        lines: list[str] = []
        try:
            request = read_request(received.decode())
            if request.listing:
                lines = self._forwarding.lines()
            else:
                self._forwarding.apply(request)
            lines.append(f"ok\t{self._forwarding.listeners}\t{self._forwarding.connections}")
        except Refused as error:
            lines = [f"error\t{error}"]
        except ValueError as error:
            lines = [f"error\tnot understood: {error}"]
        text = "".join(f"{line}\n" for line in lines).encode()
        client.settimeout(_SECONDS)  # the daemon waits for it
        with contextlib.suppress(OSError):
            for at in range(0, len(text), _ANSWER_PACKET):
                client.send(text[at : at + _ANSWER_PACKET])
