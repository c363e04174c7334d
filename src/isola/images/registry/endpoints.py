"""Where a registry is reached, and which certificates it may show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from isola.host import Host
from isola.host.http import Trust
from isola.images.registry.settings import Registries, is_loopback
from isola.model.image_reference import DOCKER_HUB

HUB_HOST = "registry-1." + DOCKER_HUB
_MOST_FILES = 32


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registry, or a mirror of it."""

    domain: str
    """Of the registry itself."""
    urls: tuple[str, ...]
    """In the order in which they are tried."""
    trust: Trust
    plain: bool = False
    """Whether HTTP without encryption is accepted."""
    mirror: bool = False
    named: bool = False
    """Whether the settings name it."""


async def endpoints(host: Host, certificates: Path, settings: Registries, domain: str) -> tuple[Endpoint, ...]:
    """The mirrors of a registry, then the registry itself; ``certificates`` has a directory for each server."""
    mirrors = [
        Endpoint(
            domain,
            (url,),
            await _trust(host, certificates, urlsplit(url).netloc, settings),
            plain=url.startswith("http:"),
            mirror=True,
            named=True,
        )
        for url in settings.mirrors.get(domain, ())
    ]
    return (*mirrors, await origin(host, certificates, settings, domain))


async def origin(host: Host, certificates: Path, settings: Registries, domain: str) -> Endpoint:
    """The registry itself.

    HTTP without encryption is used only for registries that the settings name, and for addresses of this machine
    that do not speak TLS. Unlike with Docker, certificates of this machine are checked too.
    """
    server = HUB_HOST if domain == DOCKER_HUB else domain
    plain = settings.is_insecure(domain) or is_loopback(domain)
    urls = (f"https://{server}", f"http://{server}") if plain else (f"https://{server}",)
    return Endpoint(
        domain, urls, await _trust(host, certificates, server, settings), plain, named=settings.is_insecure(domain)
    )


async def _trust(host: Host, certificates: Path, server: str, settings: Registries) -> Trust:
    """As in Docker's ``certs.d``: ``*.crt`` are authorities, ``*.cert`` and ``*.key`` the client's own pair."""
    place = certificates / server
    names = sorted(await host.files.names(place))[:_MOST_FILES] if await host.files.exists(place) else []
    own = next((name for name in names if name.endswith(".cert") and f"{name[:-5]}.key" in names), "")
    return Trust(
        verify=not settings.is_insecure(server),
        authorities=tuple(place / name for name in names if name.endswith(".crt")),
        certificate=place / own if own else None,
        key=place / f"{own[:-5]}.key" if own else None,
    )
