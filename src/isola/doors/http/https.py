"""The APIs over the network: follows changes of ``core.https_address`` while the daemon runs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from isola.doors import Services
from isola.doors.http.ceilings import Ceilings, origin
from isola.doors.http.door import Door
from isola.doors.http.listening import listen
from isola.doors.http.protocol import NetworkProtocol, NetworkServer
from isola.errors import InUse, InvalidInput, IsolaError
from isola.model.caller import Credential
from isola.model.endpoint import Endpoint, endpoint
from isola.server import HTTPS_PORT

if TYPE_CHECKING:
    from isola.x509 import KeyPair

log = logging.getLogger("isola.https")
_KEY = "core.https_address"
_HANDSHAKE_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
_RETRY_SECONDS = 10.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Https:
    """Listens on the address in the server's configuration."""

    def __init__(self, services: Services, doors: Sequence[Door]) -> None:
        """The first door that claims a path answers; the last one answers all others, and what is not HTTP."""
        self._services = services
        self._doors = doors
        self._http = NetworkServer(self._handle, doors[-1].malformed)
        self._ceilings = Ceilings()
        self._listening: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._arriving: set[asyncio.Task[None]] = set()
        self._untrusted: dict[asyncio.Task[None], tuple[str, Callable[[], object]]] = {}
        """Connections that have not presented a trusted certificate, the oldest first: the address, and what closes
        it.
        """
        self._open: dict[NetworkProtocol, str] = {}
        """Open connections with the fingerprint of the client's certificate."""
        self._context: ssl.SSLContext | None = None
        self._retry: asyncio.Task[None] | None = None
        services.server.appliers.append(self._apply)
        services.certificates.distrusted = self._disconnect

    async def open(self) -> None:
        """Listen as configured. An address that the host does not have yet is tried again periodically."""
        if endpoint := _wanted(self._services.server.config):
            try:
                await self._listen(endpoint)
            except IsolaError as error:
                log.error("Cannot serve the API over the network yet, trying again: %s", error)
                self._retry = asyncio.ensure_future(self._retry_listening())

    async def reload(self) -> None:
        """Show the certificate that is in the daemon's directory to all who connect from now on.

        Raises HostFailure, InvalidInput; the one before stays in use then.
        """
        if (pair := await self._services.identity.changed()) is not None:
            context = await asyncio.to_thread(_context_of, pair)
            self._services.identity.use(pair)
            self._context = context
            log.info("The certificate of the server has changed: %s", self._services.identity.fingerprint)

    async def close(self) -> None:
        """Stop accepting connections, and close the open ones."""
        self._cancel_retry()
        self._stop_listening()
        self._http.pre_shutdown()
        await self._http.shutdown(_CLOSE_SECONDS)
        for task in self._arriving:
            task.cancel()
        await asyncio.gather(*self._arriving, return_exceptions=True)

    async def _apply(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Open, move or close the listener. Raises InUse, HostFailure; then the old listener stays open."""
        old, new = _wanted(before), _wanted(after)
        if old == new and (self._listening or new is None):
            return
        self._cancel_retry()
        if new is None:
            self._stop_listening()
            self._disconnect_all()
            return
        try:
            await self._listen(new)
        except InUse:
            if not self._listening or old is None or old.port != new.port:
                raise
            await self._make_room(old, new)

    async def _make_room(self, old: Endpoint, new: Endpoint) -> None:
        """Replace a listener by one whose address overlaps: close the old one first, reopen it if that fails."""
        self._stop_listening()
        try:
            await self._listen(new)
        except IsolaError:
            await self._listen(old)
            raise

    async def _listen(self, endpoint: Endpoint) -> None:
        """Open the new listener, then close the old one."""
        if self._context is None:
            self._context = _context_of(await self._services.identity.ensure())
        opened = await asyncio.to_thread(listen, endpoint)
        self._stop_listening()
        self._listening = opened
        self._accepting = [asyncio.ensure_future(self._accept(each)) for each in opened]
        await self._publish(endpoint)
        log.info("The API is served over TLS at %s", endpoint)

    async def _publish(self, endpoint: Endpoint) -> None:
        """Publish the addresses at which the server can be reached."""
        found = await self._addresses() if endpoint.everywhere else [endpoint.host]
        if endpoint.host == "0.0.0.0":
            found = [each for each in found if ":" not in each]
        self._services.identity.addresses = tuple(str(Endpoint(each, endpoint.port)) for each in found)

    async def _addresses(self) -> Sequence[str]:
        links = await self._services.host.links.all()
        return [
            address.address
            for link in links
            if link.kind != "loopback"
            for address in link.state.addresses
            if address.scope == "global"
        ]

    def _stop_listening(self) -> None:
        for task in self._accepting:
            task.cancel()
        for each in self._listening:
            each.close()
        self._accepting, self._listening = [], []
        self._services.identity.addresses = ()

    async def _retry_listening(self) -> None:
        while not self._listening and (endpoint := _wanted(self._services.server.config)):
            await asyncio.sleep(_RETRY_SECONDS)
            with contextlib.suppress(IsolaError):
                await self._listen(endpoint)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                link, peer = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    log.warning("Cannot accept a connection: %s", error.strerror)
                    await asyncio.sleep(1)
                continue
            who = origin(peer[0])
            if not self._ceilings.admit(who):
                link.close()
                continue
            task = asyncio.ensure_future(self._arrive(link, who))
            self._arriving.add(task)
            self._untrusted[task] = who, partial(link.shutdown, socket.SHUT_RDWR)
            task.add_done_callback(self._ended)
            if (address := self._ceilings.most_untrusted()) is not None:
                await self._close_oldest(address)

    async def _close_oldest(self, address: str) -> None:
        """Close the oldest untrusted connection of an address, and wait until its buffers are free again."""
        task, close = next((task, close) for task, (who, close) in self._untrusted.items() if who == address)
        self._not_untrusted(task)
        with contextlib.suppress(OSError):
            close()
        await asyncio.wait([task], timeout=_CLOSE_SECONDS)

    def _not_untrusted(self, task: asyncio.Task[None]) -> None:
        if (found := self._untrusted.pop(task, None)) is not None:
            self._ceilings.untrusted_ended(found[0])

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._not_untrusted(task)
        self._arriving.discard(task)

    async def _arrive(self, link: socket.socket, who: str) -> None:
        """The TLS handshake, and the connection's counters until it is closed."""
        task = asyncio.current_task()
        assert task is not None
        try:
            _enable_keepalive(link)
            transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(
                self._http,
                link,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_CLOSE_SECONDS,
            )
            lost = asyncio.Event()
            protocol.lost = lost.set
            protocol.trusted = partial(self._not_untrusted, task)
            fingerprint = _fingerprint(transport)
            self._open[protocol] = fingerprint
            if self._services.certificates.caller(fingerprint, who).trusted:
                self._not_untrusted(task)
            elif task in self._untrusted:
                self._untrusted[task] = who, transport.abort
            try:
                await lost.wait()
            finally:
                self._open.pop(protocol, None)
        except OSError as error:  # includes TLS errors and timeouts of the handshake
            log.debug("A connection from %s failed: %s", who, error)
            link.close()
        finally:
            self._not_untrusted(task)
            self._ceilings.leave(who)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = request.protocol
        assert isinstance(protocol, NetworkProtocol)
        protocol.requested = True
        peer = request.transport.get_extra_info("peername") if request.transport else None
        address = str(Endpoint(peer[0], peer[1])) if peer else ""
        caller = self._services.certificates.caller(self._open.get(protocol, ""), address)
        path = request.raw_path.partition("?")[0]
        door = next((each for each in self._doors if each.claims(path)), self._doors[-1])
        return await door.answer(request, caller)

    def _disconnect(self, fingerprint: str) -> None:
        """Close the connections of a client that has lost permissions; a response in progress is sent first.

        Its commands and consoles end too: their channels may be connections that have shown no certificate.
        """
        self._hang_up(protocol for protocol, shown in self._open.items() if shown == fingerprint)
        for operation in list(self._services.operations):
            theirs = operation.caller.credential is Credential.CERTIFICATE and operation.caller.name == fingerprint
            if theirs and operation.kind == "websocket" and operation.may_cancel:
                operation.cancel()

    def _disconnect_all(self) -> None:
        """Close all connections when the port is closed."""
        self._hang_up(self._open)

    def _hang_up(self, protocols: Iterable[NetworkProtocol]) -> None:
        for protocol in protocols:
            if protocol.transport is not None:
                asyncio.get_running_loop().call_later(_CLOSE_SECONDS, protocol.transport.abort)


def trust_connection(request: web.BaseRequest) -> None:
    """The client has logged in by its request: the limits for untrusted connections end."""
    if isinstance(request.protocol, NetworkProtocol):
        request.protocol.trusted()


def _wanted(config: Mapping[str, str]) -> Endpoint | None:
    text = config.get(_KEY, "")
    return endpoint(text, HTTPS_PORT) if text else None


def _context_of(pair: KeyPair) -> ssl.SSLContext:
    """Raises InvalidInput."""
    from OpenSSL import SSL  # a daemon without a network port needs no cryptography

    from isola.doors.http.tls import ServerContext

    try:
        return ServerContext(pair)
    except (SSL.Error, TypeError, ValueError) as error:
        raise InvalidInput(
            "server.crt and server.key are not a certificate and its key",
            evidence=str(error)[:200],
            remedy="put both there, in PEM format and without a password",
        ) from error


def _fingerprint(transport: asyncio.BaseTransport) -> str:
    """Fingerprint of the certificate proven in the handshake; empty without one."""
    from isola.x509 import fingerprint

    found = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return fingerprint(found) if found else ""


def _enable_keepalive(link: socket.socket) -> None:
    """Detect dead peers: TCP keepalive for idle connections, TCP_USER_TIMEOUT for unacknowledged data."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
