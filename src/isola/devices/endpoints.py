"""Addresses of proxies, as the API writes them: ``tcp:10.1.2.3:80,8000-8010``, ``unix:@name``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

MOST_PORTS = 256
"""Maximum for one proxy."""
_LONGEST_SOCKET = 100
_INTERNET = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9,-]+)", re.ASCII)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a proxy."""

    protocol: str
    """``tcp``, ``udp``, ``sctp`` or ``unix``."""
    host: str
    """An IP address, or a path (``@name`` for an abstract socket)."""
    ports: tuple[int, ...] = ()


def parse(value: str) -> Endpoint:
    """Raises ValueError with the reason. The only port may be 0: one that is to be chosen."""
    protocol, _, rest = value.partition(":")
    if protocol == "unix":
        return Endpoint(protocol, _path(rest))
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError("it does not begin with tcp:, udp:, sctp: or unix:")
    match = _INTERNET.fullmatch(rest)
    if match is None:
        raise ValueError("an IP address (IPv6 in brackets) and a port follow the protocol")
    return Endpoint(protocol, str(ip_address(match[1] or match[2])), _ports(match[3]))


def _path(text: str) -> str:
    name = text.removeprefix("@")
    if not name or "\0" in text or len(text.encode()) > _LONGEST_SOCKET:
        raise ValueError(f"a path of up to {_LONGEST_SOCKET} bytes follows unix:")
    if not text.startswith("@") and (not text.startswith("/") or ".." in text.split("/") or text.endswith("/")):
        raise ValueError("the path of a socket is absolute and has no ..")
    return text


def _ports(text: str) -> tuple[int, ...]:
    if text == "0":
        return (0,)
    found: list[int] = []
    for part in text.split(","):
        match = _PORTS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 0 < first <= last <= 65535:
            raise ValueError("ports are numbers from 1 to 65535, or ranges of them")
        if len(found) + last - first + 1 > MOST_PORTS:
            raise ValueError(f"more than {MOST_PORTS} ports")
        found += range(first, last + 1)
    if len(set(found)) != len(found):
        raise ValueError("a port is named twice")
    return tuple(found)
