"""Parsers of device keys. Each raises ValueError with a message that describes valid values."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from isola.errors import InvalidInput
from isola.model.names import network_name
from isola.model.outside import METADATA4
from isola.model.units import parse_size

_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,14}", re.ASCII)
_LINK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", re.ASCII)
_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.IFNAME\.([a-z0-9_]{1,64})=([!-~]{1,64})", re.ASCII)
_MAC = re.compile(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}", re.ASCII)
_RATE = re.compile(r"([0-9]{1,12})\s*([A-Za-z]*)", re.ASCII)
_RATES = {
    "": 1, "bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12,
    "kibit": 2**10, "mibit": 2**20, "gibit": 2**30, "tibit": 2**40,
}  # fmt: skip
_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", re.ASCII)
_MOST_NAMES = 64
_LINK_LOCAL = (ip_network("169.254.0.0/16"), ip_network("fe80::/64"))
_MOST_SUBNETS = 64
_NOT_ROUTED = tuple(
    map(ip_network, ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::/127", "fe80::/10", "ff00::/8"))
)
_LOWEST_RATE, _HIGHEST_RATE = 8_000, 10**12
_LONGEST_PATH = 4095


def interface(value: str) -> str:
    """Name of a network interface inside."""
    if not _INTERFACE.fullmatch(value) or value in ("lo", "all", "default"):
        raise ValueError(
            "an interface name such as eth0 is expected: a letter, then up to 14 of letters, digits, . _ -"
        )
    return value


def interface_sysctls(value: str) -> dict[str, str]:
    """Parameters of an interface, separated by commas: file below ``/proc/sys/net``, with ``IFNAME`` for it -> text."""
    found = {}
    for each in value.split(","):
        if not (match := _SYSCTL.fullmatch(each)):
            raise ValueError("net.X.Y.IFNAME.Z=VALUE is expected, where X is ipv4, ipv6 or mpls; several by commas")
        found[f"{match[1]}/{match[2]}/IFNAME/{match[3]}"] = match[4]
    if len(found) > _MOST_NAMES:
        raise ValueError(f"at most {_MOST_NAMES} are expected")
    return found


def link(value: str) -> str:
    """Name of a link of the host."""
    if not _LINK.fullmatch(value) or value in (".", "..", "all", "default"):
        raise ValueError("the name of a link of the host is expected, up to 15 characters")
    return value


def network(value: str) -> str:
    """Name of a managed network."""
    try:
        return network_name(value)
    except InvalidInput as error:
        raise ValueError("the name of a network is expected, up to 128 characters") from error


def host_names(value: str) -> tuple[str, ...]:
    """Names for DNS, separated by commas."""
    found = tuple(part.strip() for part in value.split(","))
    if len(found) > _MOST_NAMES or not all(_HOST_NAME.fullmatch(name) for name in found):
        raise ValueError(f"up to {_MOST_NAMES} names of letters, digits, hyphens, dots and underscores are expected")
    return found


def is_host_name(value: str) -> bool:
    """Whether it can be a name for DNS."""
    return _HOST_NAME.fullmatch(value) is not None


def mac(value: str) -> str:
    """A unicast MAC address, in lower case."""
    if not _MAC.fullmatch(value):
        raise ValueError("a unicast MAC address such as 10:66:6a:01:02:03 is expected")
    return value.lower()


def address(version: int, *, several: bool = False) -> Callable[[str], str]:
    """An IP address, ``none``, or with ``several`` a list of them."""
    example = "10.1.2.3" if version == 4 else "fd42::3"
    sentence = f"an IPv{version} address such as {example}, or none, is expected"

    def parse(value: str) -> str:
        if value == "none":
            return value
        parts = value.split(",") if several else [value]
        return ",".join(str(_address(part.strip(), version, sentence)) for part in parts)

    return parse


def link_local_addresses(value: str) -> tuple[str, ...]:
    """With their prefix lengths."""
    sentence = f"up to {_MOST_NAMES} addresses of 169.254.0.0/16 or fe80::/64, separated by commas, are expected"
    try:
        found = [ip_address(part.strip()) for part in value.split(",")]
    except ValueError as error:
        raise ValueError(sentence) from error
    if len(found) > _MOST_NAMES or not all(any(each in link for link in _LINK_LOCAL) for each in found):
        raise ValueError(sentence)
    if taken := [str(each) for each in found if str(each) in METADATA4]:
        raise ValueError(f"{taken[0]} is the address of a metadata service: another one is expected")
    return tuple(f"{each}/{16 if each.version == 4 else 64}" for each in found)


def address6_any(value: str) -> str:
    """An IPv6 address, also a link-local one."""
    try:
        return str(IPv6Address(value))
    except ValueError as error:
        raise ValueError("an IPv6 address such as fe80::1 is expected") from error


def routes(version: int) -> Callable[[str], tuple[str, ...]]:
    """Subnets, separated by commas; each once. Not all addresses: that would be another default route of the host."""
    sentence = f"IPv{version} subnets, separated by commas, are expected"

    def parse(value: str) -> tuple[str, ...]:
        try:
            found = [ip_network(part.strip()) for part in value.split(",")]
        except ValueError as error:
            raise ValueError(sentence) from error
        if any(subnet.version != version or "%" in str(subnet) for subnet in found):
            raise ValueError(sentence)
        if len(found) > _MOST_SUBNETS:
            raise ValueError(f"up to {_MOST_SUBNETS} {sentence}")
        for subnet in found:
            if not subnet.prefixlen or any(subnet.overlaps(other) for other in _NOT_ROUTED if other.version == version):
                raise ValueError(f"{sentence}; {subnet} cannot be one of them")
        return tuple(dict.fromkeys(map(str, found)))

    return parse


def rate(value: str) -> int:
    """Bits per second of ``10Mbit``."""
    sentence = "a rate in bits per second such as 100Mbit or 512kbit is expected, 8kbit to 1Tbit"
    match = _RATE.fullmatch(value.strip())
    factor = _RATES.get(match[2].lower()) if match else None
    if match is None or factor is None or not _LOWEST_RATE <= int(match[1]) * factor <= _HIGHEST_RATE:
        raise ValueError(sentence)
    return int(match[1]) * factor


def path_inside(value: str) -> str:
    """An absolute path inside, without ``..``."""
    parts = value.split("/")
    if not value.startswith("/") or ".." in parts or "\0" in value or len(value) > _LONGEST_PATH:
        raise ValueError("an absolute path inside the instance is expected, without ..")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def mount_point(value: str) -> str:
    """A path inside; a relative one is below the root, as in LXD."""
    found = path_inside(f"/{value.removeprefix('/')}")
    if found == "/" and value != "/":
        raise ValueError("a path below / inside the instance is expected, or / itself")
    return found


def path_on_host(value: str) -> str:
    """An absolute path of the host."""
    if not value.startswith("/") or "\0" in value or len(value) > _LONGEST_PATH or ".." in value.split("/"):
        raise ValueError("an absolute path of the host is expected, without ..")
    return value


def size(value: str) -> int:
    """Bytes, at least 64 KiB."""
    found = parse_size(value)
    if found < 65536:
        raise ValueError("a size of at least 64KiB such as 512MiB or 2GB is expected")
    return found


def mode(value: str) -> int:
    """Permission bits in octal."""
    return _octal(value, 0o777, "0660")


def mode_of_directory(value: str) -> int:
    """The same, with the bit for directories in which only owners remove files."""
    return _octal(value, 0o1777, "1777")


def _octal(value: str, most: int, example: str) -> int:
    try:
        found = int(value, 8)
    except ValueError:
        found = -1
    if not 0 <= found <= most or not value.isascii():
        raise ValueError(f"permission bits in octal such as {example} are expected")
    return found


def path_below(value: str) -> str:
    """A relative path without ``..``."""
    parts = value.split("/")
    if value.startswith("/") or ".." in parts or "\0" in value or not value.strip("./") or len(value) > _LONGEST_PATH:
        raise ValueError("a relative path is expected, without ..")
    return "/".join(part for part in parts if part not in ("", "."))


def _address(text: str, version: int, sentence: str) -> object:
    try:
        found = ip_address(text)
    except ValueError as error:
        raise ValueError(sentence) from error
    if found.version != version or "%" in text or found.is_multicast or found.is_unspecified or found.is_loopback:
        raise ValueError(sentence)
    return found
