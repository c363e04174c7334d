"""TLS to a remote daemon whose certificate is known, with our own certificate as our name."""

from __future__ import annotations

import socket
import ssl
from hashlib import sha256
from typing import Any, cast

from isola.client.remotes import Remote
from isola.errors import Forbidden

_CONNECT_SECONDS = 10.0
_RECORD = 16384
"""The most that a TLS record holds: who reads as much leaves nothing behind that ``poll`` would not tell of."""


class TlsSocket:
    """As much of a socket as the client uses; what would block raises ``BlockingIOError``, as of any socket."""

    def __init__(self, link: ssl.SSLSocket) -> None:
        self._link = link

    def recv(self, most: int) -> bytes:
        """Up to ``most`` bytes, of which at least a record's worth must be asked for; empty at the end."""
        assert most >= _RECORD
        try:
            return self._link.recv(most)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise ConnectionResetError(str(error)) from None

    def send(self, data: Any) -> int:
        """How many were taken."""
        try:
            return self._link.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise ConnectionResetError(str(error)) from None

    def sendall(self, data: Any) -> None:
        try:
            self._link.sendall(data)
        except ssl.SSLError as error:
            raise ConnectionResetError(str(error)) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


def connect_tls(remote: Remote, timeout: float | None) -> Any:
    """A connected socket to the very server that is known. Raises Unreachable, Forbidden where it is another."""
    link = _connected(remote.host, remote.port, context(remote.identity), remote.url)
    if remote.fingerprint != (found := _fingerprint(link)):
        link.close()
        raise Forbidden(
            f"The server at {remote.url} is not the one it was",
            evidence=f"its certificate is {found[:12]}, known is {remote.fingerprint[:12]}",
            remedy="where this is meant to be so, remove the remote and add it again",
        )
    link.settimeout(timeout)
    return TlsSocket(link)


def server_certificate(host: str, port: int) -> str:
    """The fingerprint of the server's certificate, for the user to compare. Raises Unreachable."""
    link = _connected(host, port, context(None), f"https://{host}:{port}")
    try:
        return _fingerprint(link)
    finally:
        link.close()


def context(identity: tuple[str, str] | None) -> ssl.SSLContext:
    """TLS 1.3 with our certificate and key (their files); the server's certificate is looked at by ``connect_tls``."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if identity is not None:
        made.load_cert_chain(*identity)
    return made


def _connected(host: str, port: int, tls: ssl.SSLContext, url: str) -> ssl.SSLSocket:
    from isola.client.failures import unreachable_remote

    try:
        link = socket.create_connection((host, port), _CONNECT_SECONDS)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except OSError as error:
        raise unreachable_remote(url, error) from error
    try:
        return tls.wrap_socket(link)
    except OSError as error:
        link.close()
        raise unreachable_remote(url, error) from error


def _fingerprint(link: ssl.SSLSocket) -> str:
    return sha256(cast(bytes, link.getpeercert(binary_form=True))).hexdigest()
