"""TLS to a remote daemon with a known certificate; the client authenticates with its own."""

from __future__ import annotations

import socket
import ssl
from hashlib import sha256
from typing import Any, cast

from isola.client.remotes import Remote
from isola.errors import Forbidden

_CONNECT_SECONDS = 10.0
_RECORD = 16384
"""Maximum size of a TLS record. Reads of this size leave no bytes in TLS buffers, where ``poll`` does not see them."""


class TlsSocket:
    """The part of the socket interface that the client uses; raises ``BlockingIOError``, not errors of ``ssl``."""

    def __init__(self, link: ssl.SSLSocket) -> None:
        self._link = link

    def recv(self, most: int) -> bytes:
        """Up to ``most`` bytes, at least the size of a TLS record; empty at EOF."""
        assert most >= _RECORD
        try:
            return self._link.recv(most)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise ConnectionResetError(str(error)) from None

    def send(self, data: Any) -> int:
        """The number of bytes sent."""
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
    """A connected socket. Raises Unreachable, and Forbidden if the server's certificate is not the known one."""
    link = _connected(remote.host, remote.port, context(remote.identity), remote.url)
    if remote.fingerprint != (found := _fingerprint(link)):
        link.close()
        raise Forbidden(
            f"The certificate of the server at {remote.url} has changed",
            evidence=f"its fingerprint is {found[:12]}, expected {remote.fingerprint[:12]}",
            remedy="if this is intended, remove the remote and add it again",
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
    """TLS 1.3 with the user's certificate and key (paths). ``connect_tls`` checks the server's certificate."""
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
