"""Results of a build to the client that builds, each with its vertex."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isola.builds.exporting import Export
from isola.doors.docker.buildkit.calls import Failure
from isola.doors.docker.buildkit.outputs import Kind, Outputs
from isola.doors.docker.buildkit.progress import Progress, Vertex
from isola.doors.docker.buildkit.sending import send_archive, send_files
from isola.doors.docker.buildkit.sessions import Session
from isola.errors import IsolaError


@asynccontextmanager
async def vertex(progress: Progress, name: str) -> AsyncIterator[Vertex]:
    """A vertex that has failed if the block raises."""
    begun = await progress.begin(name)
    try:
        yield begun
    except (IsolaError, Failure) as error:
        await progress.done(begun, str(error))
        raise
    await progress.done(begun)


class Counted:
    """Blocks on their way."""

    def __init__(self, blocks: AsyncIterator[bytes]) -> None:
        self.size = 0
        self._blocks = blocks

    async def blocks(self) -> AsyncIterator[bytes]:
        async for block in self._blocks:
            self.size += len(block)
            yield block


async def deliver(session: Session, outputs: Outputs, progress: Progress, export: Export) -> None:
    """All that goes to the client. Raises an IsolaError."""
    if outputs.deliveries:
        await progress.failed("")  # the steps have succeeded
    for each in outputs.deliveries:
        async with vertex(progress, each.kind.value) as exporting:
            if each.kind is Kind.TREE:
                await send_files(session, export, each.number)
                await progress.status(exporting, "copying files")
                continue
            sent = Counted(export.files() if each.kind is Kind.TAR else export.archive(each.names))
            await send_archive(session, sent.blocks(), each.number)
            await progress.status(exporting, "sending tarball", sent.size)
