"""Directories of a build's further contexts: what the client has sent, and what is fetched when it is first needed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from isola.builds.contexts import is_archive
from isola.builds.fetching import fetched
from isola.builds.parts import Job
from isola.errors import InvalidInput
from isola.host import Host
from isola.model.build import BuildEvent, BuildEventKind
from isola.model.git_address import GitAddress, parse_git


class Trees:
    """Of one build."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._found: dict[str, Path] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, name: str) -> Path:
        """By the normalized name. Raises what fetching raises."""
        context = self._job.plan.contexts[name]
        if context.directory:
            return self._job.place / context.directory
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._found:
                self._found[name] = await self._fetched(context.remote)
        return self._found[name]

    async def _fetched(self, address: str) -> Path:
        self._job.tell(BuildEvent(BuildEventKind.OUTPUT, 0, data=f"Fetching {address[:200]}\n".encode()))
        if (repository := parse_git(address, context=True)) is not None:
            return await self._checked_out(repository)
        file, host = await fetched(self._job, address), self._job.parts.context.host
        if not await is_archive(host, file):
            return file.parent
        place = self._job.temporary("unpacked")
        await host.files.make_directory(place, mode=0o755)
        await host.archives.unpack(file, place, limits=self._job.parts.context.images.limits)
        return place

    async def _checked_out(self, address: GitAddress) -> Path:
        checkout = await self._job.repositories.checkout(address, keep_git=False)
        if checkout.submodules:
            text = f"[Warning] Submodules of {address.url} are not fetched"
            self._job.tell(BuildEvent(BuildEventKind.WARNING, 0, text))
        return checkout.tree


async def take_apart(host: Host, received: Path, place: Path, names: tuple[str, ...]) -> None:
    """Move directories of an archive, which the client has made, beside each other. Raises InvalidInput.

    Nothing else of the archive is kept: a link in the place of one of them would lead out of it.
    """
    async with host.files.root(received) as root:
        kinds = {name: entry.kind async for part in await root.entries("/") for name, entry in part}
    for name in names:
        if kinds.get(name) != "directory":
            raise InvalidInput(f"The archive of the contexts has no directory {name}", field="contexts")
        await host.files.rename(received / name, place / name)
    await host.files.remove_tree(received)
