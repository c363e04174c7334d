"""``Client``: where the daemon is, and how its API is called; the nouns hang on it."""

from __future__ import annotations

import os

from isola.client import json
from isola.client.http import Connection, FileBody, Response
from isola.client.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from isola.client.admin import Admin
    from isola.client.certificates import Certificates
    from isola.client.events import Follower
    from isola.client.http import Headers
    from isola.client.images import Images
    from isola.client.instances import Instances
    from isola.client.networks import Networks
    from isola.client.operations import Operation, Operations
    from isola.client.profiles import Profiles
    from isola.client.remotes import Remote
    from isola.client.server import Server
    from isola.client.storage import Storage
    from isola.client.websocket import Opening

    Query = Mapping[str, str | int]

DEFAULT_DIRECTORY = "/var/lib/isola"
_IDLE_CONNECTIONS = 4
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Client:
    """A daemon's API. Connections are opened when needed and kept; one client serves one thread at a time."""

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        project: str = "",
        timeout: float | None = None,
        remote: Remote | None = None,
    ) -> None:
        """``directory`` is the daemon's (default: ``ISOLA_DIR``, else /var/lib/isola), or the socket itself.

        With ``remote`` it is a daemon that is reached over the network.
        """
        place = os.fspath(directory or os.environ.get("ISOLA_DIR") or DEFAULT_DIRECTORY)
        self.socket_path = place if place.endswith(".socket") else os.path.join(place, "unix.socket")
        self.remote = remote
        self.project = project
        self.timeout = timeout
        self._idle: list[Connection] = []

    @property
    def place(self) -> str:
        """Where the daemon is, for people."""
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

    # --- the nouns ----------------------------------------------------------------------------------------------

    @property
    def server(self) -> Server:
        """The daemon itself: what it is, its configuration, the host's resources."""
        from isola.client.server import Server

        return Server(self)

    @property
    def instances(self) -> Instances:
        """Instances: lifecycle, exec, console, files."""
        from isola.client.instances import Instances

        return Instances(self)

    @property
    def images(self) -> Images:
        """Images and their aliases."""
        from isola.client.images import Images

        return Images(self)

    @property
    def networks(self) -> Networks:
        """Networks and their leases."""
        from isola.client.networks import Networks

        return Networks(self)

    @property
    def storage(self) -> Storage:
        """Storage pools and volumes."""
        from isola.client.storage import Storage

        return Storage(self)

    @property
    def profiles(self) -> Profiles:
        """Profiles."""
        from isola.client.profiles import Profiles

        return Profiles(self)

    @property
    def certificates(self) -> Certificates:
        """Certificates of clients that the daemon trusts, and tokens by which clients add theirs."""
        from isola.client.certificates import Certificates

        return Certificates(self)

    @property
    def operations(self) -> Operations:
        """Operations under way or just ended."""
        from isola.client.operations import Operations

        return Operations(self)

    @property
    def admin(self) -> Admin:
        """The daemon's records: copies, and what is in none."""
        from isola.client.admin import Admin

        return Admin(self)

    def events(self, *types: str) -> Follower:
        """Follow the daemon's events, of some types or all."""
        from isola.client.events import Follower

        return Follower(self, types)

    # --- calls --------------------------------------------------------------------------------------------------

    def get(self, path: str, query: Query | None = None) -> object:
        """The metadata of a GET."""
        return self.call("GET", path, query=query).metadata

    def call(
        self, method: str, path: str, body: object = None, *, query: Query | None = None, headers: Headers = ()
    ) -> Reply:
        """One exchange with a JSON body. Raises the daemon's error."""
        data = None if body is None and method in ("GET", "DELETE") else json.encode(body or {}).encode()
        if data is not None:
            headers = (*headers, ("Content-Type", "application/json"))
        response = self.exchange(method, path, data, query=query, headers=headers)
        try:
            return Reply.read(response)
        finally:
            self.release(response)

    def begin(
        self, method: str, path: str, body: object = None, *, query: Query | None = None, headers: Headers = ()
    ) -> Operation:
        """One exchange that begins an operation; one that is over at once counts as a finished operation."""
        from isola.client.operations import Operation

        return Operation.of_reply(self, self.call(method, path, body, query=query, headers=headers))

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | FileBody | Iterable[bytes] | None = None,
        *,
        query: Query | None = None,
        headers: Headers = (),
    ) -> Response:
        """One exchange whose response the caller reads and gives back by ``release``."""
        connection = self.send(method, path, body, query=query, headers=headers)
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
        """Send a request; the answer is received from the connection when the caller wants it."""
        connection = self._connection()
        try:
            connection.send(method, self.target(path, query), headers, body)
        except BaseException:
            connection.close()
            raise
        return connection

    def release(self, response: Response) -> None:
        """Keep the response's connection for the next exchange if it can be, else close it."""
        if len(self._idle) < _IDLE_CONNECTIONS and response.reusable:
            self._idle.append(response.connection)
        else:
            response.connection.close()

    def websocket(self, path: str, query: Query | None = None) -> Opening:
        """Begin to open a WebSocket."""
        from isola.client.websocket import Opening

        return Opening(self._connection(), self.target(path, query))

    def target(self, path: str, query: Query | None = None) -> str:
        """The request target: an already quoted path and a query, with the project where one is chosen."""
        items = dict(query or {})
        if self.project:
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
    """A text as one component of a URL; ``/`` is quoted too."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in data)
