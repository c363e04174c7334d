"""Contexts that the server fetches: a repository, an archive, a Dockerfile."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from isola.builds.dockerfile.lines import MAX_FILE
from isola.builds.fetching import receive
from isola.builds.parts import Tell
from isola.builds.repositories import Repositories
from isola.errors import InvalidInput, TooLarge
from isola.host import Host
from isola.host.archive.archives import UnpackLimits
from isola.host.archive.formats import compression
from isola.host.http import check_url
from isola.model.build import BuildEvent, BuildEventKind, BuildRequest
from isola.model.git_address import GitAddress, parse_git

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_HEAD, _USTAR = 512, slice(257, 262)
KEEP_GIT = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
"""A build argument that no Dockerfile has to declare."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What a context is made of."""

    repositories: Repositories
    limits: UnpackLimits
    tell: Tell


def remote_of(text: str) -> GitAddress | str:
    """A repository, or the address of a file. Raises InvalidInput."""
    try:
        found = parse_git(text, context=True)
    except ValueError as error:
        raise InvalidInput(str(error), field="remote") from error
    if found is None and not _ADDRESS.match(text):
        raise InvalidInput(f"Not an address of a context: {text[:200]!r}", field="remote",
                           remedy="use https://HOST/NAME.git#REF:DIRECTORY, or the address of an archive")  # fmt: skip
    return found or check_url(text)


async def fetch(request: BuildRequest, target: Path, sources: Sources) -> BuildRequest:
    """Write the files to the new directory ``target``; returns the request, which may name another Dockerfile then."""
    host = sources.repositories.host
    remote = remote_of(request.remote)
    if isinstance(remote, GitAddress):
        sources.tell(BuildEvent(BuildEventKind.OUTPUT, 0, data=f"Fetching {remote}\n".encode()))
        keep = request.arguments.get(KEEP_GIT, "").lower() in ("1", "true")
        checkout = await sources.repositories.checkout(remote, keep_git=keep)
        if checkout.submodules:
            sources.tell(BuildEvent(BuildEventKind.WARNING, 0, f"[Warning] Submodules of {remote.url} are not fetched"))
        await host.files.rename(checkout.tree, target)
        return request
    sources.tell(BuildEvent(BuildEventKind.OUTPUT, 0, data=f"Fetching {remote[:200]}\n".encode()))
    return await _downloaded(request, remote, target, sources)


async def is_archive(host: Host, file: Path) -> bool:
    """By its content."""
    head = await host.files.read(file, _HEAD)
    return bool(compression(head[:8])) or head[_USTAR] == b"ustar"


async def _downloaded(request: BuildRequest, address: str, target: Path, sources: Sources) -> BuildRequest:
    """An archive, or else a Dockerfile without a context."""
    host, file = sources.repositories.host, target.parent / "download"
    await receive(host, address, file, sources.limits.bytes)
    await host.files.make_directory(target, mode=0o755)
    if await is_archive(host, file):
        await host.archives.unpack(file, target, limits=sources.limits)
        await host.files.remove_tree(file)
        return request
    if await host.files.size(file) > MAX_FILE:
        raise TooLarge(f"{address[:200]} is neither an archive nor a Dockerfile", field="remote")
    await host.files.rename(file, target / "Dockerfile")
    return replace(request, dockerfile="Dockerfile")
