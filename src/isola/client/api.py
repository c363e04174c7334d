"""``Api``: the connection to a daemon, and calls of its API."""

from __future__ import annotations

import posix

from isola.client import json
from isola.client.http import Connection, FileBody, Response
from isola.client.reply import Reply
from isola.environment import variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike
    from types import TracebackType
    from typing import Self, cast

    from isola.client.http import Headers
    from isola.client.remotes import Remote
    from isola.client.websocket import Opening

    Query = Mapping[str, str | int]
else:

    def cast(kind, value):
        """In place of that of ``typing``, which takes 8 ms to import."""
        return value


__all__ = ["DEFAULT_DIRECTORY", "Api", "cast", "quote"]

DEFAULT_DIRECTORY = "/var/lib/isola"
_IDLE_CONNECTIONS = 4
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Api:
    """A daemon's API. Connections are opened on demand and reused. Not safe for concurrent use by several threads."""

    def __init__(
        self,
        directory: str | PathLike[str] | None = None,
        *,
        project: str = "",
        timeout: float | None = None,
        remote: Remote | None = None,
    ) -> None:
        """``directory`` is the daemon's (default: ``ISOLA_DIR``, else /var/lib/isola), or the path of its socket.

        With ``remote`` the daemon is reached over the network instead.
        """
        place = posix.fspath(directory or variable("ISOLA_DIR") or DEFAULT_DIRECTORY)
        self.socket_path = place if place.endswith(".socket") else f"{place.removesuffix('/')}/unix.socket"
        self.remote = remote
        self.project = project
        self.everywhere = False
        """Whether lists include all projects."""
        self.wait_seconds = 0.0
        """Seconds that the response to a request that starts an operation may take, to report its end."""
        self.timeout = timeout
        self._idle: list[Connection] = []

    @property
    def place(self) -> str:
        """Path of the socket or URL, for messages."""
        return self.socket_path if self.remote is None else self.remote.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def get(self, path: str, query: Query | None = None) -> object:
        """The ``metadata`` of the response to a GET."""
        return self.call("GET", path, query=query).metadata

    def call(
        self, method: str, path: str, body: object = None, *, query: Query | None = None, headers: Headers = ()
    ) -> Reply:
        """One request with a JSON body. Raises the daemon's error."""
        return self.receive_reply(self.send_json(method, path, body, query=query, headers=headers), method, path)

    def send_json(
        self, method: str, path: str, body: object = None, *, query: Query | None = None, headers: Headers = ()
    ) -> Connection:
        """Send a request with a JSON body; ``receive_reply`` receives its response."""
        data = None if body is None and method in ("GET", "DELETE") else json.encode(body or {}).encode()
        if data is not None:
            headers = (*headers, ("Content-Type", "application/json"))
        return self.send(method, path, data, query=query, headers=headers)

    def receive_reply(self, connection: Connection, method: str, path: str) -> Reply:
        """Raises the daemon's error."""
        response = self._received(connection, method)
        try:
            return Reply.read(response, path)
        finally:
            self.release(response)

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | FileBody | Iterable[bytes] | None = None,
        *,
        query: Query | None = None,
        headers: Headers = (),
    ) -> Response:
        """One request; the caller reads the response and calls ``release``."""
        return self._received(self.send(method, path, body, query=query, headers=headers), method)

    @staticmethod
    def _received(connection: Connection, method: str) -> Response:
        try:
            return connection.receive(method)
        except BaseException:
            connection.close()
            raise

    def send(
        self,
        method: str,
        path: str,
        body: bytes | FileBody | Iterable[bytes] | None = None,
        *,
        query: Query | None = None,
        headers: Headers = (),
    ) -> Connection:
        """Send a request without waiting for the response."""
        connection = self._connection()
        try:
            connection.send(method, self.target(path, query), headers, body)
        except BaseException:
            connection.close()
            raise
        return connection

    def release(self, response: Response) -> None:
        """Keep the response's connection for the next request if it is reusable, else close it."""
        if len(self._idle) < _IDLE_CONNECTIONS and response.reusable:
            self._idle.append(response.connection)
        else:
            response.connection.close()

    def websocket(self, path: str, query: Query | None = None) -> Opening:
        """Send the handshake of a WebSocket."""
        from isola.client.websocket import Opening

        return Opening(self._connection(), self.target(path, query))

    def target(self, path: str, query: Query | None = None) -> str:
        """The request target: a quoted path, and the query with the chosen project added."""
        items = dict(query or {})
        if self.everywhere:
            items.setdefault("all-projects", "true")
        elif self.project:
            items.setdefault("project", self.project)
        if not items:
            return path
        text = "&".join(f"{quote(key)}={quote(str(value))}" for key, value in items.items())
        return f"{path}{'&' if '?' in path else '?'}{text}"

    def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
            connection.close()
        return Connection(self.remote or self.socket_path, self.timeout)


def quote(text: str) -> str:
    """Percent-encode a text as one component of a URL; ``/`` is encoded too."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in data)
