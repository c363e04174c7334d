"""Pushes of an image that was built, with the passwords of the client that has built it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from isola.doors.docker.buildkit.calls import Code, Failure
from isola.doors.docker.buildkit.client import Client
from isola.doors.docker.buildkit.http2 import Broken
from isola.doors.docker.buildkit.outputs import Push
from isola.doors.docker.buildkit.sessions import Session
from isola.errors import IsolaError, WrongState
from isola.images.descriptor import MANIFEST_TYPE
from isola.model.image import Image
from isola.operations import Operation


@dataclass(frozen=True, slots=True)
class Pushed:
    """The manifest in the registry."""

    digest: str
    size: int
    media_type: str = MANIFEST_TYPE


async def push(
    client: Client, session: Session, pushes: Sequence[Push], image: Image, tell: Callable[[str], Awaitable[None]]
) -> Pushed:
    """Under all names. Raises Failure, Broken, an IsolaError."""
    images = client.services.images
    digest, size = image.manifest, 0
    for each in pushes:
        to = each.to.at(digest=image.manifest) if each.by_digest else each.to
        credentials = await session.credentials(to.domain)
        operation = images.registries.start_push(image.ref, to, credentials=credentials, caller=client.caller)
        await _ended(session, operation)
        digest, size = str(operation.metadata["digest"]), int(str(operation.metadata["size"]))
        await tell(f"pushing manifest for {to.at(tag=to.tag).full}@{digest}")
    return Pushed(digest, size)


async def _ended(session: Session, operation: Operation) -> None:
    """The push lasts no longer than the client."""
    waiting, closed = asyncio.ensure_future(operation.wait()), asyncio.ensure_future(session.connection.closed.wait())
    try:
        await asyncio.wait([waiting, closed], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        closed.cancel()
        if not operation.status.final:
            cancel(operation)
    if operation.error is not None:
        text = str(operation.error) if isinstance(operation.error, IsolaError) else "the push was cancelled"
        raise Failure(Code.UNKNOWN, text)
    if not operation.status.final:
        raise Broken("the client has closed its session")


def cancel(operation: Operation) -> None:
    """Unless it has ended."""
    with suppress(WrongState):
        operation.cancel()
