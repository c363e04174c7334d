"""The result of a build for its client alone: files, or an archive of the image. Nothing of it is recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from isola.builds.parts import Job, Result
from isola.builds.roots import root_of
from isola.errors import WrongState
from isola.host.roots import Root
from isola.images.compose import Named
from isola.model.image_reference import parse_full

_NO_FILES = bytes(1024)
"""An archive without members."""


class Export:
    """The same result, looked at in several ways."""

    def __init__(self, job: Job, result: Result, image: Named | None = None) -> None:
        self._job = job
        self._result = result
        self._image = image

    async def blocks(self) -> AsyncIterator[bytes]:
        """One tar archive: of OCI's and Docker's layout if it is an image, or of the files. Raises HostFailure."""
        async for block in self.files() if self._image is None else self.archive(self._image.names):
            yield block

    async def archive(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """The image with names. Raises WrongState if none was wanted, HostFailure."""
        if self._image is None:
            raise WrongState("The build makes no image")
        images = self._job.parts.context.images.archives
        async for block in images.save([(self._image.image, [name for name in names if parse_full(name)])]):
            yield block

    async def files(self) -> AsyncIterator[bytes]:
        """One tar archive of the files. Raises HostFailure."""
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
