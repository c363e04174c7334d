"""Adapts an upgraded connection to asyncssh's SFTP server: reader, writer and channel in one."""

from __future__ import annotations

from asyncssh.logging import logger

from isola.doors.http.takeover import TakenOver


class SftpStream:
    """A response is sent before the next packet is read, so at most one response is buffered for a slow client."""

    def __init__(self, connection: TakenOver) -> None:
        self._connection = connection
        self._written: list[bytes] = []
        self._closed = False
        self.logger = logger

    @property
    def channel(self) -> SftpStream:
        """The writer's channel: this object."""
        return self

    def get_extra_info(self, name: str, default: str = "") -> str:
        """Reports the client as OpenSSH: all clients use its order of SYMLINK's arguments, not that of the draft."""
        return "OpenSSH" if name == "client_version" else default

    async def readexactly(self, size: int) -> bytes:
        """Raises EOFError after the client has closed."""
        await self.flush()
        if self._closed:
            raise EOFError
        return await self._connection.read(size)

    def write(self, data: bytes) -> None:
        """Buffer data for ``flush``."""
        self._written.append(data)

    async def flush(self) -> None:
        """Raises EOFError after the client has closed."""
        if self._written:
            data, self._written = b"".join(self._written), []
            try:
                await self._connection.write(data)
            except ConnectionError as error:
                raise EOFError from error

    def is_closing(self) -> bool:
        """Whether the session is closing."""
        return self._closed

    def close(self) -> None:
        """End the session."""
        self._closed = True
