"""Passes an archive that arrives on to the process that unpacks it (``arriving``), which needs no event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from isola.host.archive.answers import Answer
from isola.host.archive.arriving import VERB
from isola.host.archive.forked import Forked
from isola.host.archive.requesting import ask


async def received(forked: Forked, blocks: AsyncIterator[bytes], target: Path, limits: Mapping[str, int]) -> Answer:
    """Have it unpacked into ``target``. A client that still sends does not read an error: the rest is dropped first."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        request = {"target": str(target), "limits": limits}
        asking = asyncio.ensure_future(ask(forked, VERB, request, descriptor=theirs.detach()))
        try:
            await _passed_on(blocks, ours)
            return await asking
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def _passed_on(blocks: AsyncIterator[bytes], end: socket.socket) -> None:
    """All of them; once the process does not take more, the rest is read and dropped."""
    loop, taken = asyncio.get_running_loop(), True
    async for block in blocks:
        if taken:
            taken = await _sent(loop, end, block)
    if taken:
        end.shutdown(socket.SHUT_WR)


async def _sent(loop: asyncio.AbstractEventLoop, end: socket.socket, block: bytes) -> bool:
    try:
        await loop.sock_sendall(end, block)
    except OSError:
        return False  # the process has ended
    return True
