"""Addresses of this host with a port."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

_EXPECTED = "an address of this host with a port is expected, as in 192.0.2.1:8443, [2001:db8::1]:8443 or :8443"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where something listens. ``host`` is an IP address; empty stands for all addresses of both families."""

    host: str
    port: int

    @property
    def everywhere(self) -> bool:
        """Whether it stands for all addresses."""
        return self.host in ("", "0.0.0.0", "::")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(text: str, default_port: int) -> Endpoint:
    """Raises ValueError that says what is expected."""
    host, port = _split(text.strip())
    if host:
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError:
            raise ValueError(_EXPECTED) from None
    if not port:
        return Endpoint(host, default_port)
    if not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65536:
        raise ValueError("the port must be a number from 1 to 65535")
    return Endpoint(host, int(port))


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not host or (rest and not rest.startswith(":")):
            raise ValueError(_EXPECTED)
        return host, rest[1:]
    if text.count(":") > 1:
        return text, ""
    host, colon, port = text.partition(":")
    if not text or (colon and not port):
        raise ValueError(_EXPECTED)
    return host, port
