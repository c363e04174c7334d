"""Requests to HTTP servers outside: registries, image servers, addresses in build files."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_UNSPEC
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from isola.errors import HostFailure, InvalidInput, TooLarge
from isola.host.outside import check_outside, is_limited
from isola.host.threads import Work, in_long_thread, in_thread

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from aiohttp.abc import AbstractResolver

_MAX_HEAD = 16 << 10
"""Bytes of one header; aiohttp also bounds their number."""
_BLOCK = 256 << 10
_CONNECT, _SILENCE = 30.0, 60.0
"""Seconds."""
MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
_MOST_CONTEXTS = 16
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificates of servers are accepted, and the one shown to them."""

    verify: bool = True
    authorities: tuple[Path, ...] = ()
    """PEM files of authorities, in addition to those of the host."""
    certificate: Path | None = None
    key: Path | None = None


PUBLIC = Trust()


@dataclass(frozen=True, slots=True)
class FileBody:
    """A part of a file as the body of a request; ``sent`` is called with the number of bytes of each block."""

    path: Path
    offset: int
    size: int
    sent: Callable[[int], None] = lambda size: None


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. Redirects are followed for GET and HEAD, to other servers without credentials."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FileBody = b""
    trust: Trust = PUBLIC
    plain: bool = False
    """Whether a redirect may lead from https to http."""
    named: bool = False
    """Whether an administrator has named the server: then it may be inside, for all callers."""

    @property
    def only_outside(self) -> bool:
        """Whether servers that only this host can reach are refused."""
        return is_limited() and not self.named


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The head of a response, and its body as it arrives."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    url: str
    blocks: AsyncIterator[bytes]
    """Raises HostFailure if the connection breaks."""

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises TooLarge, HostFailure."""
        if int(self.headers.get("content-length", "0") or 0) > limit:
            raise TooLarge("The response of the server is too large", evidence=f"more than {limit} bytes")
        body = bytearray()
        async for block in self.blocks:
            body += block
            if len(body) > limit:
                raise TooLarge("The response of the server is too large", evidence=f"more than {limit} bytes")
        return bytes(body)


class Http(Protocol):
    """A client without state that a caller could notice: no cookies, no credentials of its own."""

    def exchange(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpResponse]:
        """Send a request. Raises HostFailure if there is no response, InvalidInput for an impossible URL, Forbidden."""
        ...

    async def addresses(self, url: str) -> tuple[str, ...]:
        """Where a program may connect to for this server, which follows no redirects; empty: wherever its name leads.

        Raises Forbidden, HostFailure, InvalidInput.
        """
        ...

    async def close(self) -> None:
        """Close idle connections; later requests open new ones."""
        ...


class LinuxHttp:
    """By aiohttp, which is imported with the first request; proxies are those of the environment."""

    def __init__(self) -> None:
        self._sessions: dict[bool, ClientSession] = {}
        """The second is for requests that may connect to addresses outside of this host only."""
        self._contexts: dict[object, ssl.SSLContext] = {}

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        """A connection is used again only if its response was read to the end."""
        url, headers = check_url(request.url), dict(request.headers)
        for _ in range(MOST_REDIRECTS):
            response = await self._send(request, url, headers)
            try:
                onward = redirected(request, url, response.status, response.headers.get("Location", ""))
                if onward is None:
                    lower = {name.lower(): value for name, value in response.headers.items()}
                    yield HttpResponse(response.status, lower, url, _blocks(response, url))
                    return
            finally:
                response.close() if not response.content.is_eof() else response.release()
            headers = headers if same_server(url, onward) else without_secrets(headers)
            url = onward
        raise endless(url)

    async def addresses(self, url: str) -> tuple[str, ...]:
        """Only requests that are limited have to be; a proxy resolves names itself."""
        parts = urlsplit(check_url(url))
        if not is_limited():
            return ()
        check_outside(url)
        if _proxy(url) is not None:
            return ()
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = await _outside_names().resolve(parts.hostname or "", port, AF_UNSPEC)
        except OSError as error:
            raise HostFailure(f"Could not connect to {server_of(url)}", evidence=str(error)) from error
        return tuple(each["host"] for each in found)

    async def close(self) -> None:
        """Returns when the connections are closed."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def _send(self, request: HttpRequest, url: str, headers: Mapping[str, str]) -> ClientResponse:
        from aiohttp import ClientError, ClientTimeout

        proxy, secure = _proxy(url), url.startswith("https:")
        if request.only_outside:
            check_outside(url)
        context = await self._context(request.trust) if secure else True
        body = request.body if isinstance(request.body, bytes) else _pieces(request.body)
        sized = {"Content-Length": str(request.body.size)} if isinstance(request.body, FileBody) else _NO_HEADERS
        try:
            return await self._opened(outside=request.only_outside and proxy is None).request(
                request.method,
                url,
                headers={"Accept-Encoding": "identity", **headers, **sized},
                data=body or None,
                ssl=context,
                proxy=proxy,
                allow_redirects=False,
                timeout=ClientTimeout(sock_connect=_CONNECT, sock_read=_SILENCE),
            )
        except (ClientError, TimeoutError, OSError) as error:
            raise _failure(url, error) from error
        except ValueError as error:
            raise InvalidInput("The address cannot be used", evidence=str(error)[:200], field="url") from error

    def _opened(self, *, outside: bool) -> ClientSession:
        from aiohttp import ClientSession, DummyCookieJar, TCPConnector

        if outside not in self._sessions or self._sessions[outside].closed:
            self._sessions[outside] = ClientSession(
                connector=TCPConnector(limit=64, limit_per_host=16, resolver=_outside_names() if outside else None),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,  # bounds and digests are about the bytes that are sent
                trust_env=False,  # it would send the passwords of root's .netrc
                skip_auto_headers=("Content-Type",),
                headers={"User-Agent": "isola"},
                max_line_size=_MAX_HEAD,
                max_field_size=_MAX_HEAD,
                read_bufsize=_BLOCK,
            )
        return self._sessions[outside]

    async def _context(self, trust: Trust) -> ssl.SSLContext:
        """Made once for each set of files, and again when one of them has changed."""
        key = await in_thread(lambda: (trust, tuple(_changed(path) for path in _files_of(trust))))
        if key not in self._contexts:
            while len(self._contexts) >= _MOST_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[key] = await in_thread(lambda: _make_context(trust))
        return self._contexts[key]


def check_url(url: str) -> str:
    """Raises InvalidInput unless it is an http or https address without credentials."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known or parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput(f"Invalid address {url[:200]!r}", field="url", remedy="use http:// or https://")
    return url


def redirected(request: HttpRequest, url: str, status: int, location: str) -> str | None:
    """The address that a response leads to, if it is a redirect that is followed. Raises HostFailure, InvalidInput."""
    if status not in _REDIRECTS or not location or request.method not in ("GET", "HEAD"):
        return None
    onward = check_url(urljoin(url, location).partition("#")[0])
    if url.startswith("https:") and not onward.startswith("https:") and not request.plain:
        raise HostFailure(
            f"The server at {server_of(url)} redirects to an address without encryption", evidence=onward[:200]
        )
    return onward


def endless(url: str) -> HostFailure:
    """The error after ``MOST_REDIRECTS``."""
    return HostFailure(f"The server at {server_of(url)} redirects without end", evidence=f"{MOST_REDIRECTS} times")


def same_server(one: str, other: str) -> bool:
    """Whether both addresses have the same scheme, host and port: only then may both see the same credentials."""
    return _origin(one) == _origin(other)


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that another server may see."""
    return {name: value for name, value in headers.items() if name.lower() not in _SECRET}


def server_of(url: str) -> str:
    """Host and port of an address, for messages."""
    return urlsplit(url).netloc.rpartition("@")[2][:260]


def _outside_names() -> AbstractResolver:
    from isola.host.outside_names import OutsideNames

    return OutsideNames()


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)


def _proxy(url: str) -> str | None:
    parts, proxies = urlsplit(url), getproxies()  # of the environment, on Linux
    if not proxies or proxy_bypass(parts.netloc):
        return None
    return proxies.get(parts.scheme)


async def _pieces(body: FileBody) -> AsyncIterator[bytes]:
    file = await in_thread(lambda: os.open(body.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
    try:
        at, end = body.offset, body.offset + body.size
        while at < end:
            piece = await in_long_thread(Work.COPY, os.pread, file, min(_BLOCK, end - at), at)
            if not piece:
                raise HostFailure("A file became shorter while it was sent", evidence=body.path.name)
            yield piece
            at += len(piece)
            body.sent(len(piece))
    finally:
        os.close(file)


async def _blocks(response: ClientResponse, url: str) -> AsyncIterator[bytes]:
    from aiohttp import ClientError

    try:
        async for block in response.content.iter_chunked(_BLOCK):
            yield block
    except (ClientError, TimeoutError, OSError) as error:
        raise _failure(url, error) from error


def _failure(url: str, error: Exception) -> HostFailure:
    from aiohttp import ClientConnectorCertificateError, ClientConnectorError, ClientSSLError

    server, evidence = server_of(url), (str(error) or type(error).__name__)[:500]
    if isinstance(error, ClientConnectorCertificateError):
        return HostFailure(
            f"The certificate of {server} is not trusted",
            evidence=str(error.certificate_error)[:500],
            remedy=f"install the certificate of its authority on this host, or in certs.d/{server}/ca.crt",
        )
    if isinstance(error, ClientSSLError):
        return HostFailure(f"Could not agree on encryption with {server}", evidence=evidence)
    if isinstance(error, ClientConnectorError):
        return HostFailure(f"Could not connect to {server}", evidence=_reason(error.os_error))
    if isinstance(error, asyncio.TimeoutError):
        return HostFailure(f"The server at {server} does not answer", evidence=evidence)
    return HostFailure(f"The connection to {server} broke", evidence=evidence)


def _reason(error: OSError) -> str:
    """``Connection refused``; of several addresses the reasons of all."""
    return (
        error.strerror
        if error.strerror and "Connect call" not in error.strerror
        else (os.strerror(error.errno) if error.errno else str(error)[:500])
    )


def _files_of(trust: Trust) -> tuple[Path, ...]:
    return (*trust.authorities, *(path for path in (trust.certificate, trust.key) if path is not None))


def _changed(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def _make_context(trust: Trust) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        for path in trust.authorities:
            context.load_verify_locations(path)
        if trust.certificate is not None:
            context.load_cert_chain(trust.certificate, trust.key)
    except (OSError, ssl.SSLError) as error:
        raise HostFailure("A certificate for a registry cannot be read", evidence=str(error)) from error
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
