"""Certificates of clients that the server trusts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class CertificateType(StrEnum):
    CLIENT = "client"
    """The whole API, or that of its projects."""
    METRICS = "metrics"
    """The metrics alone."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client's certificate. ``fingerprint`` is SHA-256 of its DER form, as lower-case hexadecimal."""

    fingerprint: str
    certificate: str
    """PEM."""
    name: str
    type: str = CertificateType.CLIENT
    restricted: bool = False
    """Whether it may use ``projects`` alone."""
    projects: tuple[str, ...] = ()
    description: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a client gets that comes with a token."""

    name: str
    type: str = CertificateType.CLIENT
    restricted: bool = False
    projects: tuple[str, ...] = ()
    description: str = ""
