"""Common helpers of the contract tests of files."""

import os
from collections.abc import AsyncIterator

from isola.host.files import Root
from isola.host.proc import ProcessRef, identify
from isola.model.identity import IdRange

IDS = IdRange(300000)


async def stream(*blocks: bytes) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


async def broken() -> AsyncIterator[bytes]:
    yield b"begun"
    raise ConnectionError("the client has gone")


def itself() -> ProcessRef:
    found = identify(os.getpid())
    assert found is not None
    return found


async def content(root: Root, path: str) -> bytes:
    return b"".join([block async for block in await root.read(path)])


async def put(root: Root, path: str, data: bytes = b"data") -> None:
    await root.write(path, stream(data), uid=0, gid=0, mode=0o644)


async def names(root: Root, path: str) -> tuple[str, ...]:
    return tuple([name async for piece in await root.names(path) for name in piece])
