"""The HTTP protocol of the door's connections, on the socket and over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from isola.doors.rest.answers import failure
from isola.errors import InvalidInput, IsolaError

_FIRST_REQUEST_SECONDS = 10.0
_IDLE_SECONDS = 60.0


class Protocol(web.RequestHandler):
    """aiohttp's protocol, with this API's JSON as response to malformed HTTP."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A malformed request, or a failure below the handlers."""
        if status < 500:
            answer = failure(InvalidInput("The request is not HTTP", evidence=(message or "")[:200], field="request"))
        else:
            answer = failure(IsolaError("Internal error below the handlers"))
        answer.force_close()
        return answer


class NetworkProtocol(Protocol):
    """A network connection: closed if no request arrives in time, or if it stays idle for long."""

    __slots__ = ("_first_request_timer", "lost", "requested")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """After the TLS handshake."""
        super().connection_made(transport)
        self.requested = False
        self.lost: Callable[[], object] = lambda: None
        self._first_request_timer = asyncio.get_running_loop().call_later(_FIRST_REQUEST_SECONDS, self._hang_up)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Closed by either side."""
        self._first_request_timer.cancel()
        super().connection_lost(exc)
        self.lost()

    def _hang_up(self) -> None:
        if not self.requested and self.transport is not None:
            self.transport.abort()


class SocketServer(web.Server):
    """Creates the protocol object of each connection to the Unix socket."""

    def __call__(self) -> web.RequestHandler:
        loop = asyncio.get_running_loop()
        # Content-Encoding is not decoded: the decompressed size of a body would have no bound.
        return Protocol(
            self,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # none switches it off
            tcp_keepalive=False,
            auto_decompress=False,
        )


class NetworkServer(web.Server):
    """Creates the protocol object of each network connection."""

    def __call__(self) -> NetworkProtocol:
        return NetworkProtocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # none switches it off
            keepalive_timeout=_IDLE_SECONDS,
            auto_decompress=False,
        )
