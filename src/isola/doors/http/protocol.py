"""The HTTP protocol of connections, on Unix sockets and over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Malformed = Callable[[int, str], web.Response]
"""The response to a malformed request, or to a failure below the handlers, by its status and the reason."""
_FIRST_REQUEST_SECONDS = 10.0
_IDLE_SECONDS = 60.0


class Protocol(web.RequestHandler):
    """aiohttp's protocol, with the door's own response to malformed HTTP."""

    __slots__ = ("half_closed", "malformed")
    malformed: Malformed
    half_closed: Callable[[], object]
    """Set while the connection is taken over by what goes on writing after the client's EOF."""

    def eof_received(self) -> bool | None:  # type: ignore[override] # asyncio expects a truth value
        """Whether the connection stays open."""
        handler = getattr(self, "half_closed", None)
        if handler is None:
            super().eof_received()
            return None
        handler()
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A malformed request, or a failure below the handlers."""
        answer = self.malformed(status, (message or "")[:200])
        answer.force_close()
        return answer


class NetworkProtocol(Protocol):
    """A network connection: closed if no request arrives in time, or if it stays idle for long."""

    __slots__ = ("_first_request_timer", "first_request_seconds", "lost", "requested", "trusted")
    first_request_seconds: float
    """Seconds for the first request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """After the TLS handshake."""
        super().connection_made(transport)
        self.requested = False
        self.lost: Callable[[], object] = lambda: None
        self.trusted: Callable[[], object] = lambda: None
        self._first_request_timer = asyncio.get_running_loop().call_later(self.first_request_seconds, self._hang_up)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Closed by either side."""
        self._first_request_timer.cancel()
        super().connection_lost(exc)
        self.lost()

    def _hang_up(self) -> None:
        if not self.requested and self.transport is not None:
            self.transport.abort()


class SocketServer(web.Server):
    """Creates the protocol object of each connection to a Unix socket."""

    def __init__(self, handler: Answer, malformed: Malformed) -> None:
        super().__init__(handler)
        self._malformed = malformed

    def __call__(self) -> web.RequestHandler:
        loop = asyncio.get_running_loop()
        # Content-Encoding is not decoded: the decompressed size of a body would have no bound.
        made = Protocol(
            self,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # none switches it off
            tcp_keepalive=False,
            auto_decompress=False,
        )
        made.malformed = self._malformed
        return made


class NetworkServer(web.Server):
    """Creates the protocol object of each network connection."""

    def __init__(
        self, handler: Answer, malformed: Malformed, first_request_seconds: float = _FIRST_REQUEST_SECONDS
    ) -> None:
        super().__init__(handler)
        self._malformed = malformed
        self._first_request = first_request_seconds

    def __call__(self) -> NetworkProtocol:
        made = NetworkProtocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # none switches it off
            keepalive_timeout=_IDLE_SECONDS,
            auto_decompress=False,
        )
        made.first_request_seconds = self._first_request
        made.malformed = self._malformed
        return made
