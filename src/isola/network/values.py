"""Parsers of network configuration keys. Each raises ValueError with a message that describes valid values."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

from isola.network.addresses import Span

_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", re.ASCII | re.IGNORECASE)
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII | re.IGNORECASE)
_LINK = re.compile(r"(?!all$|default$)[A-Za-z][A-Za-z0-9_.-]{0,14}", re.ASCII)
_EXPIRY = re.compile(r"[1-9][0-9]{0,8}[smhdw]?|infinite", re.ASCII)


def gateway(version: int, shortest: int, longest: int) -> Callable[[str], IPv4Interface | IPv6Interface | None]:
    """``auto`` and ``none`` (both None), or the network's own address with a prefix length within bounds."""
    example = "10.1.2.1/24" if version == 4 else "fd42:1:2:3::1/64"
    sentence = f"auto, none, or the gateway's address with its prefix such as {example} is expected"

    def parse(value: str) -> IPv4Interface | IPv6Interface | None:
        if value in ("auto", "none"):
            return None
        try:
            own = ip_interface(value)
        except ValueError as error:
            raise ValueError(sentence) from error
        subnet = own.network
        if "/" not in value or "%" in value or own.version != version or not shortest <= subnet.prefixlen <= longest:
            raise ValueError(f"{sentence}, its prefix from {shortest} to {longest}")
        ip = own.ip
        if ip == subnet.network_address or (version == 4 and ip == subnet.broadcast_address):
            raise ValueError(f"{sentence}; {ip} is not the address of a host")
        if ip.is_multicast or ip.is_loopback or ip.is_unspecified or ip.is_link_local:
            raise ValueError(f"{sentence}; {ip} cannot be used for a network")
        return own

    return parse


def address(version: int) -> Callable[[str], str]:
    """One IP address."""

    def parse(value: str) -> str:
        try:
            found = ip_address(value)
        except ValueError as error:
            raise ValueError(f"an IPv{version} address is expected") from error
        if found.version != version or "%" in value:
            raise ValueError(f"an IPv{version} address is expected")
        return str(found)

    return parse


def ranges(version: int) -> Callable[[str], tuple[Span, ...]]:
    """``FIRST-LAST`` ranges of addresses, separated by commas."""
    one = address(version)

    def parse(value: str) -> tuple[Span, ...]:
        spans = []
        for part in value.split(","):
            first, _, last = (end.strip() for end in part.partition("-"))
            try:
                span = int(ip_address(one(first))), int(ip_address(one(last)))
            except ValueError as error:
                raise ValueError("ranges FIRST-LAST of addresses, separated by commas, are expected") from error
            if span[0] > span[1]:
                raise ValueError(f"ranges FIRST-LAST are expected, but {first} comes after {last}")
            spans.append(span)
        return tuple(spans)

    return parse


def mac(value: str) -> str:
    """A unicast MAC address."""
    if not _MAC.fullmatch(value):
        raise ValueError("a unicast MAC address such as 0a:69:73:01:02:03 is expected")
    return value.lower()


def link(value: str) -> str:
    """A name for a link of the host."""
    if not _LINK.fullmatch(value):
        raise ValueError("a name for a link is expected: a letter, then up to 14 of letters, digits, . _ -")
    return value


def domain(value: str) -> str:
    """A DNS domain."""
    if len(value) > 200 or not _DOMAIN.fullmatch(value):
        raise ValueError("a domain name such as isola or lab.example.org is expected")
    return value.lower()


def domains(value: str) -> tuple[str, ...]:
    """DNS domains, separated by commas."""
    return tuple(domain(name.strip()) for name in value.split(","))


def expiry(value: str) -> str:
    """How long a DHCP lease lasts, as dnsmasq writes it."""
    if not _EXPIRY.fullmatch(value):
        raise ValueError("a time such as 1h, 45m or infinite is expected")
    return value
