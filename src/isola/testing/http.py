"""HTTP servers in memory: functions that answer requests, with connections that can break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from isola.errors import HostFailure
from isola.host.files import Files
from isola.host.http import (
    MOST_REDIRECTS,
    FileBody,
    HttpRequest,
    HttpResponse,
    Trust,
    check_url,
    endless,
    redirected,
    same_server,
    server_of,
    without_secrets,
)
from isola.host.outside import check_outside, is_limited

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Received:
    """A request as a server sees it."""

    method: str
    url: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    trust: Trust
    complete: bool = True
    """Whether the whole body arrived."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of a server."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    breaks_after: int | None = None
    """Bytes of the body after which the connection breaks."""


Server = Callable[[Received], Reply]


class FakeHttp:
    """``servers``: origins such as ``https://registry.example`` and their functions."""

    def __init__(self, files: Files) -> None:
        self.servers: dict[str, Server] = {}
        self.requests: list[Received] = []
        self.upload_breaks: list[int] = []
        """Bytes after which the next uploads of files break; what was sent arrives."""
        self._files = files

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        """Follows redirects as the real one does."""
        url, headers = check_url(request.url), {name.lower(): value for name, value in request.headers.items()}
        for _ in range(MOST_REDIRECTS):
            reply = await self._send(request, url, headers)
            lower = {name.lower(): value for name, value in reply.headers.items()}
            lower.setdefault("content-length", str(len(reply.body)))
            onward = redirected(request, url, reply.status, lower.get("location", ""))
            if onward is None:
                yield HttpResponse(reply.status, lower, url, _blocks(reply, request.method))
                return
            headers = headers if same_server(url, onward) else without_secrets(headers)
            url = onward
        raise endless(url)

    async def addresses(self, url: str) -> tuple[str, ...]:
        """Names are not resolved here."""
        if is_limited():
            check_outside(check_url(url))
        return ()

    async def close(self) -> None: ...

    async def _send(self, request: HttpRequest, url: str, headers: Mapping[str, str]) -> Reply:
        if request.only_outside:
            check_outside(url)
        parts = urlsplit(url)
        server = self.servers.get(f"{parts.scheme}://{parts.netloc}")
        if server is None:
            raise HostFailure(f"Could not connect to {server_of(url)}", evidence="connection refused")
        body, broken = await self._body(request.body)
        received = Received(request.method, url, headers, body, request.trust, not broken)
        self.requests.append(received)
        reply = server(received)
        if broken:
            raise HostFailure(f"The connection to {server_of(url)} broke", evidence="while the body was sent")
        return reply

    async def _body(self, body: bytes | FileBody) -> tuple[bytes, bool]:
        if isinstance(body, bytes):
            return body, False
        content = (await self._files.read(body.path))[body.offset : body.offset + body.size]
        broken = bool(self.upload_breaks)
        if broken:
            content = content[: self.upload_breaks.pop(0)]
        body.sent(len(content))
        return content, broken


async def _blocks(reply: Reply, method: str) -> AsyncIterator[bytes]:
    body = b"" if method == "HEAD" else reply.body[: reply.breaks_after]
    for position in range(0, len(body), _BLOCK):
        yield body[position : position + _BLOCK]
    if reply.breaks_after is not None:
        raise HostFailure("The connection broke")
