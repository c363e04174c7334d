"""Settings of the server about registries, and what they say."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from isola.model.image_reference import DOCKER_HUB, check_domain
from isola.settings import Setting, one_of

DEFAULT, MIRRORS, INSECURE = "images.registry.default", "images.registry.mirrors", "images.registry.insecure"
SHORT_NAMES, ALIASES = "images.short_names", "aliases"
"""What ``debian:12`` may mean to builds and to the Docker API, beside a name in a registry."""
_MOST = 64
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Registries:
    """The settings, parsed."""

    default: str = ""
    """Registry of names without one; empty: such names are not looked for in registries."""
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Registry -> addresses that are asked first."""
    insecure: tuple[str, ...] = ()

    def is_insecure(self, domain: str) -> bool:
        """Whether its certificate is not checked, and plain HTTP is accepted."""
        host = _host(domain)
        address = _address(host)
        return any(
            each in (domain, host) or (address is not None and "/" in each and address in ipaddress.ip_network(each))
            for each in self.insecure
        )


def registries(config: Mapping[str, str]) -> Registries:
    """The settings in the server's configuration."""
    return Registries(
        config.get(DEFAULT, ""),
        parse_mirrors(config.get(MIRRORS, "")),
        parse_insecure(config.get(INSECURE, "")),
    )


def is_loopback(domain: str) -> bool:
    """Whether the name itself says that its server is on this machine."""
    host = _host(domain)
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def parse_mirrors(value: str) -> dict[str, tuple[str, ...]]:
    """``docker.io=https://mirror.example``, several separated by spaces or commas. Raises ValueError."""
    found: dict[str, tuple[str, ...]] = {}
    for each in _items(value):
        domain, equals, url = each.partition("=")
        parts = urlsplit(url)
        if not equals or parts.scheme not in ("http", "https") or parts.username or parts.query or parts.fragment:
            raise ValueError("registries with the addresses of their mirrors as in REGISTRY=https://HOST are expected")
        check_domain(parts.netloc)
        found[check_domain(domain)] = (*found.get(domain, ()), url.rstrip("/"))
    return found


def parse_insecure(value: str) -> tuple[str, ...]:
    """Hosts, hosts with ports and networks such as ``10.0.0.0/8``. Raises ValueError."""
    for each in _items(value):
        if "/" in each:
            ipaddress.ip_network(each)
        else:
            check_domain(each)
    return tuple(_items(value))


def _items(value: str) -> list[str]:
    found = value.replace(",", " ").split()
    if len(found) > _MOST:
        raise ValueError(f"at most {_MOST} entries are expected")
    return found


def _host(domain: str) -> str:
    try:
        return urlsplit(f"//{domain}").hostname or domain
    except ValueError:
        return domain


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


SETTINGS = (
    Setting(
        DEFAULT,
        check_domain,
        f"Registry of image names without one, as in `{DOCKER_HUB}`. Without this key such names are aliases or names "
        "of image sources only. The Docker API always uses Docker Hub.",
        live=True,
    ),
    Setting(
        MIRRORS,
        parse_mirrors,
        "Mirrors that are asked before a registry, in this order: `REGISTRY=https://HOST[:PORT][/PATH]`, several "
        "separated by spaces or commas. No credentials are sent to them.",
        live=True,
    ),
    Setting(
        SHORT_NAMES,
        one_of("registry", ALIASES),
        "What `debian:12` means to builds and to the Docker API where no image has that name: that of the registry "
        "`docker.io` alone, or, with `aliases`, also an image of this machine with the alias `debian/12`.",
        "registry",
        live=True,
    ),
    Setting(
        INSECURE,
        parse_insecure,
        "Registries whose certificates are not checked and that may use HTTP without encryption: hosts, "
        "`HOST:PORT`, or networks such as `10.0.0.0/8`, separated by spaces or commas.",
        live=True,
        expects="hosts or networks, separated by spaces or commas",
    ),
)
