"""The result of a build for its client alone: files, or an archive of the image. Nothing of it is recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from isola.builds.parts import Job, Result
from isola.builds.roots import root_of
from isola.host.roots import Root
from isola.images.compose import Named
from isola.model.image_reference import parse_full

_NO_FILES = bytes(1024)
"""An archive without members."""


class Export:
    """``blocks`` can be read once; of the files ``tree`` is another view."""

    def __init__(self, job: Job, result: Result, image: Named | None = None) -> None:
        self._job = job
        self._result = result
        self._image = image

    async def blocks(self) -> AsyncIterator[bytes]:
        """One tar archive: of OCI's and Docker's layout if it is an image, or of the files. Raises HostFailure."""
        if self._image is not None:
            names = [name for name in self._image.names if parse_full(name)]
            async for block in self._job.parts.context.images.archives.save([(self._image.image, names)]):
                yield block
            return
        async with root_of(self._job, self._result) as directory:
            if directory is None:
                yield _NO_FILES
                return
            async for block in self._job.parts.context.host.archives.stream(directory):
                yield block

    @asynccontextmanager
    async def tree(self) -> AsyncIterator[Root | None]:
        """The files; None if there are none."""
        async with root_of(self._job, self._result) as directory:
            if directory is None:
                yield None
                return
            async with self._job.parts.context.host.files.root(directory) as root:
                yield root


Deliver = Callable[[Export], Awaitable[None]]
"""Gives it to the client. Raises an IsolaError, which becomes that of the build."""
