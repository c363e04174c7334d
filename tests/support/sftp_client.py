"""An SFTP client over an upgraded connection of the REST door."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncssh import SFTPClient
from asyncssh.logging import logger
from asyncssh.sftp import SFTPClientHandler


class _Ends:
    """A connection with the interface that asyncssh's client needs: reader, writer and channel in one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.logger, self.channel = reader, writer, logger, self

    def get_extra_info(self, name: str, default: str = "") -> str:
        return "OpenSSH" if name == "server_version" else default

    async def readexactly(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def is_closing(self) -> bool:
        return self.writer.is_closing()

    def close(self) -> None:
        self.writer.close()

    async def wait_closed(self) -> None:
        await self.writer.wait_closed()


async def upgraded(
    place: Path | int, instance: str, *, upgrade: str = "sftp", project: str = "", tls: ssl.SSLContext | None = None
) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
    """The head of the response, and the connection after it. ``place`` is the socket, or a local port."""
    if isinstance(place, int):
        reader, writer = await asyncio.open_connection("127.0.0.1", place, ssl=tls)
    else:
        reader, writer = await asyncio.open_unix_connection(place)
    query = f"?project={project}" if project else ""
    head = f"GET /1.0/instances/{instance}/sftp{query} HTTP/1.1\r\nHost: isola\r\n"
    writer.write(f"{head}Upgrade: {upgrade}\r\nConnection: Upgrade\r\n\r\n".encode())
    return (await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer


@asynccontextmanager
async def connected(place: Path | int, instance: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Any]:
    """asyncssh's ``SFTPClient``."""
    head, reader, writer = await upgraded(place, instance, tls=tls)
    assert head.startswith("HTTP/1.1 101 "), head
    ends: Any = _Ends(reader, writer)
    handler = SFTPClientHandler(asyncio.get_running_loop(), "strict", ends, ends, 3)
    await handler.start()
    receiving = asyncio.ensure_future(handler.recv_packets())
    try:
        await handler.request_limits()
        yield SFTPClient(handler, "utf-8", "surrogateescape")
    finally:
        writer.close()
        await asyncio.wait([receiving], timeout=2)
