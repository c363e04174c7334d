"""TLS for the door: requests a certificate from each client and accepts any issuer.

Clients of the API have self-signed certificates. The handshake proves that a client holds the private key; its
fingerprint identifies it. Python's ``ssl`` rejects certificates with an unknown issuer before the program sees them.
pyOpenSSL leaves the decision to a callback; these two classes adapt it to the interface that asyncio expects of
``ssl``, through the documented ``wrap_bio``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from isola.x509 import KeyPair

T = TypeVar("T")
_BLOCK = 65536
_SESSION = b"isola"


class ServerContext(ssl.SSLContext):
    """TLS 1.3 with the server's certificate. Sessions are not resumed, so each connection authenticates its client."""

    _context: SSL.Context

    def __new__(cls, pair: KeyPair) -> ServerContext:
        """``ssl.SSLContext`` takes its protocol as an argument of ``__new__``."""
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made._context = _context(pair)
        return made

    def __init__(self, pair: KeyPair) -> None:
        super().__init__()

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """The server's side of one connection."""
        return ServerConnection(self._context, incoming, outgoing)


class ServerConnection(ssl.SSLObject):
    """One TLS connection between two memory buffers: received and outgoing bytes."""

    def __init__(self, context: SSL.Context, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._incoming = incoming
        self._outgoing = outgoing
        self.peer: bytes | None = None
        """The client's certificate (DER), set after the handshake has proven its key."""
        self.half_closed: Callable[[], object] | None = None
        """Called at the client's close_notify; the connection then stays open for writing."""

    def do_handshake(self) -> None:
        """Raises SSLWantReadError until it is finished, SSLError when it fails."""
        self._step(self._tls.do_handshake)
        try:
            found = self._tls.get_peer_certificate(as_cryptography=True)
            self.peer = None if found is None else found.public_bytes(serialization.Encoding.DER)
        except ValueError as error:  # OpenSSL accepts it, the stricter parser does not
            raise ssl.SSLError(f"the client's certificate cannot be read: {error}"[:200]) from None

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        """Decrypted bytes, or their number if a buffer is given; empty or 0 after the client's close_notify.

        asyncio closes the connection then; with ``half_closed`` it sees no end, but that there is nothing to read yet.
        """
        try:
            if buffer is None:
                return self._step(lambda: self._tls.recv(min(len, _BLOCK)))
            return self._step(lambda: self._tls.recv_into(buffer, len))
        except ssl.SSLZeroReturnError:
            if self.half_closed is None:
                return b"" if buffer is None else 0
            self.half_closed()
            raise ssl.SSLWantReadError from None

    def write(self, data: Any) -> int:
        """Encrypt all bytes; returns their number."""
        count: int = self._step(lambda: self._tls.send(data))
        return count

    def unwrap(self) -> None:
        """Send close_notify. Raises SSLWantReadError until the client has sent its own."""
        if not self._step(self._tls.shutdown):
            raise ssl.SSLWantReadError

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The client's certificate (DER); Python's dictionary form is not supported."""
        return self.peer if binary_form else None

    def cipher(self) -> tuple[str, str, int] | None:
        """Name, protocol version, secret bits."""
        name, bits = self._tls.get_cipher_name(), self._tls.get_cipher_bits()
        return None if name is None or bits is None else (name, self._tls.get_protocol_version_name(), bits)

    def compression(self) -> None:
        """None: TLS 1.3 has none."""

    def _step(self, act: Callable[[], T]) -> T:
        """Process received bytes and move outgoing ones to the buffer; maps pyOpenSSL's errors to those of ``ssl``."""
        while data := self._incoming.read():
            self._tls.bio_write(data)
        try:
            return act()
        except SSL.WantReadError:
            raise ssl.SSLWantReadError from None
        except SSL.ZeroReturnError:
            raise ssl.SSLZeroReturnError from None
        except SSL.Error as error:
            raise ssl.SSLError(f"TLS: {error.args}"[:200]) from None
        finally:
            self._flush()

    def _flush(self) -> None:
        while True:
            try:
                self._outgoing.write(self._tls.bio_read(_BLOCK))
            except SSL.WantReadError:
                return


def _context(pair: KeyPair) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(_SESSION)
    context.use_certificate(x509.load_pem_x509_certificate(pair.certificate.encode()))
    context.use_privatekey(_key(pair.key))
    context.check_privatekey()
    context.set_verify(SSL.VERIFY_PEER, lambda *found: True)
    # Only a client's own certificate matters. Verifying a chain costs up to seven milliseconds of the event loop for
    # each certificate in it, and a client may send a hundred.
    context.set_verify_depth(0)
    return context


def _key(text: str) -> Any:
    return serialization.load_pem_private_key(text.encode(), None)
