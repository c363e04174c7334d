"""The server's side of TLS, without sockets."""

from __future__ import annotations

import contextlib
import ssl
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from https_peer import START, pair
from OpenSSL import SSL

from isola.doors.http.tls import ServerConnection, ServerContext
from isola.x509 import make

_CHAIN = 30


def _certificate(number: int, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject, issuer = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"c{each}")]) for each in (number, number + 1)
    )
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(START).not_valid_after(START + timedelta(days=36500))
    return builder.add_extension(x509.BasicConstraints(True, None), critical=True).sign(key, hashes.SHA256())


def _shake_hands(client: SSL.Connection, certificates: ServerContext) -> ServerConnection:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.wrap_bio(incoming, outgoing, server_side=True)
    assert isinstance(server, ServerConnection)
    client.set_connect_state()
    while server.peer is None:
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        incoming.write(client.bio_read(1 << 20))
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            client.bio_write(outgoing.read())
    return server


def test_only_the_clients_own_certificate_of_a_chain_is_verified() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = [_certificate(number, key) for number in range(_CHAIN)]
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.use_certificate(chain[0])
    context.use_privatekey(key)
    for each in chain[1:]:
        context.add_extra_chain_cert(each)
    server = _shake_hands(SSL.Connection(context, None), ServerContext(make("server", START, server=True)))
    assert server.peer == chain[0].public_bytes(serialization.Encoding.DER)
    followed = server._tls.get_verified_chain()
    assert followed is not None and len(followed) <= 2, "each further certificate costs a verification"
    assert len(server._tls.get_peer_cert_chain() or ()) == _CHAIN - 1, "it was sent"


def test_a_self_signed_certificate_is_identified_by_its_fingerprint() -> None:
    shown = pair()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.use_certificate(x509.load_pem_x509_certificate(shown.certificate.encode()))
    key = serialization.load_pem_private_key(shown.key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    context.use_privatekey(key)
    server = _shake_hands(SSL.Connection(context, None), ServerContext(make("server", START, server=True)))
    assert server.peer == ssl.PEM_cert_to_DER_cert(shown.certificate)
