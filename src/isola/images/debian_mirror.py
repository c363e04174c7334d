"""Debian repositories for builds: those that this host's apt is configured with."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from isola.errors import IsolaError
from isola.host import Host

_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
_URI = re.compile(r"https?://[A-Za-z0-9._~:/\[\]%+-]+", re.ASCII)
"""URIs without user and password, which would be stored in every image."""
_SUITE = re.compile(
    r"(?:bullseye|bookworm|trixie|forky|sid|unstable|testing|(?:old){0,2}stable)(-updates|-security)?", re.ASCII
)
_ROLLING = "sid"
"""The release without separate updates and security repositories."""
_ORIGINS = ("Debian", "")
"""Accepted origins; empty before the first ``apt-get update``."""


async def sources(host: Host, suite: str) -> tuple[str, ...]:
    """Lines of a ``sources.list`` for a release; empty if apt has no Debian repository."""
    if host.system.find_program("apt-get") is None:
        return ()
    command = ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"]
    try:
        done = await host.processes.run(command, check=False)
    except IsolaError:
        return ()
    return lines(done.stdout.decode(errors="replace"), suite)


def lines(listed: str, suite: str) -> tuple[str, ...]:
    """The same from the output of ``apt-get indextargets``, one target per line in ``_FORMAT``.

    The host may run another release: its repositories are used with the requested release.
    """
    repositories: dict[str, str] = {}
    for line in listed.splitlines():
        uri, release, component, origin = [*line.split("|"), "", "", "", ""][:4]
        found = _SUITE.fullmatch(release)
        if found and component == "main" and origin in _ORIGINS and _usable(uri):
            repositories.setdefault(found[1] or "", uri)
    if "" not in repositories:
        return ()
    wanted = ("",) if suite == _ROLLING else ("", "-updates", "-security")
    return tuple(f"deb {repositories[kind]} {suite}{kind} main" for kind in wanted if kind in repositories)


def _usable(uri: str) -> bool:
    return bool(_URI.fullmatch(uri)) and bool(urlsplit(uri).hostname)
