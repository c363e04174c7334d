"""Self-signed certificates of servers and clients of the API: generating, parsing, fingerprints."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isola.errors import InvalidInput

_YEARS = 10
_ORGANIZATION = "Isola"
_LARGEST = 64 * 1024
_COMMON_NAME_LIMIT = 64


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """Properties of a certificate; ``fingerprint`` is the SHA-256 of its DER form, as lower-case hexadecimal."""

    fingerprint: str
    pem: str
    common_name: str
    begins: datetime
    ends: datetime

    def valid(self, now: datetime) -> bool:
        """Whether the time is within its validity period."""
        return self.begins <= now <= self.ends


def make(name: str, now: datetime, *, server: bool, hosts: Iterable[str] = ()) -> KeyPair:
    """A self-signed certificate for an ECDSA key on P-384, valid for ten years, for host names or IP addresses."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, name[:_COMMON_NAME_LIMIT]),
        ]
    )
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks of other hosts may be behind
        .not_valid_after(now + timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if names := [_general_name(host) for host in hosts]:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(key, hashes.SHA384())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(made.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


def parse(data: str | bytes, field: str = "certificate") -> Parsed:
    """A certificate in PEM, or as the API sends it (base64 of DER), or in DER. Raises InvalidInput."""
    try:
        found = _load(data)
        return Parsed(
            fingerprint=found.fingerprint(hashes.SHA256()).hex(),
            pem=found.public_bytes(serialization.Encoding.PEM).decode(),
            common_name=_common_name(found),
            begins=found.not_valid_before_utc,
            ends=found.not_valid_after_utc,
        )
    except (ValueError, TypeError, binascii.Error, x509.UnsupportedGeneralNameType) as error:
        raise InvalidInput("The certificate cannot be read", evidence=str(error)[:200], field=field) from None


def fingerprint(der: bytes) -> str:
    """SHA-256, as lower-case hexadecimal."""
    return sha256(der).hexdigest()


def _load(data: str | bytes) -> x509.Certificate:
    if len(data) > _LARGEST:
        raise ValueError("it is too large")
    if isinstance(data, str) and "-----BEGIN" in data:
        return x509.load_pem_x509_certificate(data.encode())
    # pylxd sends the lines of a PEM file without its first and last one; Go ignores line breaks in base64 too.
    der = base64.b64decode("".join(data.splitlines()), validate=True) if isinstance(data, str) else data
    return x509.load_der_x509_certificate(der)


def _common_name(found: x509.Certificate) -> str:
    names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
