"""Network connections over TLS without a request."""

from __future__ import annotations

import asyncio
import ssl
import tempfile

from aiohttp import web
from https_peer import client_context, pair

from isola.doors.http.protocol import NetworkServer


def _server_context() -> ssl.SSLContext:
    context, shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair()
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(shown.certificate + shown.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def _answer(request: web.BaseRequest) -> web.StreamResponse:
    request.protocol.requested = True  # type: ignore[attr-defined] # as the door does
    return web.Response(text="well")


async def test_silent_connections_are_closed() -> None:
    """One sends nothing, one an incomplete request; one that has sent a request stays open."""
    http = NetworkServer(
        _answer, lambda status, text: web.Response(status=status, text=text), first_request_seconds=0.3
    )
    server = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0, ssl=_server_context())
    port = server.sockets[0].getsockname()[1]

    async def hold(said: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(None))
        writer.write(said)
        try:
            return await asyncio.wait_for(reader.read(), 60)
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()

    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(None))
        asked = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(asked)
        assert await reader.readuntil(b"well")
        answers = await asyncio.gather(hold(b""), hold(asked[:-2] + b"X-Slow: "))
        assert list(answers) == [b"", b""]
        writer.write(asked)
        assert await asyncio.wait_for(reader.readuntil(b"well"), 60)
        writer.transport.abort()
        await http.shutdown(0)
