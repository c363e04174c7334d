"""Operations: background work of the daemon."""

from __future__ import annotations

from isola.client.api import cast, quote
from isola.client.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from isola.client.api import Api, Query
    from isola.client.http import Connection, Headers
    from isola.client.shapes import OperationInfo

    Watcher = Callable[[OperationInfo], None]

_POLL_MS = 100
_CANCELLED = 401


class Operation:
    """One operation. ``info`` is its last known state."""

    def __init__(self, client: Api, info: OperationInfo, path: str = "") -> None:
        self._client = client
        self.info = info
        self.answer: object = None
        """The metadata of a synchronous response, which started no operation."""
        self.path = path or f"/1.0/operations/{info.get('id', '')}"
        self.interrupted = False
        """Whether Ctrl-C was pressed before the daemon had answered with the operation; ``wait`` raises it."""
        self._waiting: Connection | None = None

    @classmethod
    def of_reply(cls, client: Api, reply: Reply) -> Operation:
        """The operation that a response refers to; a finished one for a synchronous response."""
        if reply.operation:
            info = reply.metadata if isinstance(reply.metadata, dict) else {}
            return cls(client, cast("OperationInfo", info), reply.operation.partition("?")[0])
        done = cls(client, {"status": "Success", "status_code": 200, "metadata": None, "err": ""})
        done.answer = reply.metadata
        return done

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.info.get("status_code", 0) >= 200

    @property
    def metadata(self) -> dict[str, object]:
        """The metadata of the operation, e.g. a command's ``return``."""
        return self.info.get("metadata") or {}

    def resource(self, noun: str) -> str:
        """Name of the first resource of a kind (``instances``), or empty."""
        paths = (self.info.get("resources") or {}).get(noun) or [""]
        return paths[0].partition("?")[0].rpartition("/")[2]

    def refresh(self) -> OperationInfo:
        """Read its current state."""
        self.info = cast("OperationInfo", self._client.get(self.path))
        return self.info

    def cancel(self) -> None:
        """Cancel it; its changes are rolled back. Raises Conflict when it is too late."""
        self._client.call("DELETE", self.path)

    def expect_end(self) -> Connection:
        """Send the request that waits for its end now, so that a later ``wait`` needs no further round trip."""
        if self._waiting is None:
            self._waiting = self._client.send("GET", f"{self.path}/wait")
        return self._waiting

    def wait(self, watch: Watcher | None = None, *, after: float = 0.1) -> OperationInfo:
        """Wait for the end; ``watch`` is called ten times a second meanwhile, but not in the first ``after`` seconds.

        Raises the operation's error, or Cancelled. May be called again after an interruption.
        """
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        if not self.finished:
            connection = self.expect_end()
            watched = watch is not None and self._watch(connection, watch, after)
            self.info = cast("OperationInfo", self._ended(connection).metadata)
            if watch is not None and watched:
                watch(self.info)
        self._raise_failure()
        return self.info

    def _watch(self, connection: Connection, watch: Watcher, after: float) -> bool:
        if connection.readable(round(after * 1000)):
            return False
        watch(self.refresh())
        while not connection.readable(_POLL_MS):
            watch(self.refresh())
        return True

    def _ended(self, connection: Connection) -> Reply:
        response = connection.receive()
        self._waiting = None
        try:
            return Reply.read(response)
        finally:
            self._client.release(response)

    def _raise_failure(self) -> None:
        status = self.info.get("status_code", 0)
        if status >= 400:
            from isola.client.failures import from_operation

            raise from_operation(self.info, cancelled=status == _CANCELLED)


def begin(
    client: Api,
    method: str,
    path: str,
    body: object = None,
    *,
    query: Query | None = None,
    headers: Headers = (),
    ends: bool = True,
) -> Operation:
    """A request that starts an operation; a synchronous response counts as a finished operation.

    With the client's ``wait_seconds`` the operation may have ended, too. ``ends``: it ends without a further request.
    """
    if not (ends and client.wait_seconds):
        return Operation.of_reply(client, client.call(method, path, body, query=query, headers=headers))
    query = {**(query or {}), "wait": str(client.wait_seconds)}
    connection = client.send_json(method, path, body, query=query, headers=headers)
    interrupted = _interrupted(connection, client.timeout)
    operation = Operation.of_reply(client, client.receive_reply(connection, method, path))
    operation.interrupted = interrupted
    return operation


def _interrupted(connection: Connection, timeout: float | None) -> bool:
    """Wait for the response. Ctrl-C must not lose it: an operation is cancelled by its id."""
    try:
        connection.readable(None if timeout is None else round(timeout * 1000))
    except KeyboardInterrupt:
        return True
    return False


class Operations:
    """The daemon's operations."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self) -> list[OperationInfo]:
        """All running and recently ended operations."""
        by_status = self._client.get("/1.0/operations", {"recursion": 1})
        groups = by_status.values() if isinstance(by_status, dict) else ()
        return [cast("OperationInfo", info) for group in groups for info in group]

    def get(self, id: str) -> Operation:
        """One operation. Raises NotFound."""
        path = f"/1.0/operations/{quote(id)}"
        return Operation(self._client, cast("OperationInfo", self._client.get(path)), path)
