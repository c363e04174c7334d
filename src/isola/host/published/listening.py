"""The listening sockets, who owns them, and where they lead."""

from __future__ import annotations

import socket

from isola.host.published.message import Address, Endpoint

BACKLOG = 4096
_FREEBIND4, _FREEBIND6 = (socket.IPPROTO_IP, 15), (socket.IPPROTO_IPV6, 78)
_DATAGRAM_BUFFER = 1 << 20


class Port:
    """A listening socket. Its owner and its target may change while it listens."""

    __slots__ = ("endpoint", "owner", "paused", "senders", "socket", "target")

    def __init__(self, owner: str, endpoint: Endpoint, target: Address) -> None:
        self.owner = owner
        self.endpoint = endpoint
        self.target = target
        self.socket = bound(endpoint)
        self.paused = False
        """There is no room for further connections at present."""
        self.senders: object = None
        """Of datagrams."""

    @property
    def streams(self) -> bool:
        return self.endpoint[0] == "tcp"


def bound(endpoint: Endpoint) -> socket.socket:
    """Listening, with ``::`` on all addresses of both protocols; the host may not have the address yet.

    Raises OSError.
    """
    protocol, host, port = endpoint
    six, streams = ":" in host, protocol == "tcp"
    family = socket.AF_INET6 if six else socket.AF_INET
    kind = socket.SOCK_STREAM if streams else socket.SOCK_DGRAM
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if streams:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAM_BUFFER)
        if six:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        made.setsockopt(*(_FREEBIND6 if six else _FREEBIND4), 1)
        made.bind((host, port))
        if streams:
            made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"cannot listen on {protocol}:{host}:{port}: {error.strerror}") from error
    return made
