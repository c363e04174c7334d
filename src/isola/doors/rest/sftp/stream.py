"""An upgraded connection as asyncssh's SFTP server wants it: a reader, a writer and a channel in one."""

from __future__ import annotations

from asyncssh.logging import logger

from isola.doors.takeover import TakenOver


class SftpStream:
    """What is written is sent before the next packet is read, so that at most one answer is held for a slow client."""

    def __init__(self, connection: TakenOver) -> None:
        self._connection = connection
        self._written: list[bytes] = []
        self._closed = False
        self.logger = logger

    @property
    def channel(self) -> SftpStream:
        """Of the writer."""
        return self

    def get_extra_info(self, name: str, default: str = "") -> str:
        """The order of SYMLINK's arguments follows OpenSSH, not the draft: every client of this protocol does so."""
        return "OpenSSH" if name == "client_version" else default

    async def readexactly(self, size: int) -> bytes:
        """Raises EOFError when the client has gone."""
        await self.flush()
        if self._closed:
            raise EOFError
        return await self._connection.read(size)

    def write(self, data: bytes) -> None:
        """Sent by ``flush``."""
        self._written.append(data)

    async def flush(self) -> None:
        """Raises EOFError when the client has gone."""
        if self._written:
            data, self._written = b"".join(self._written), []
            try:
                await self._connection.write(data)
            except ConnectionError as error:
                raise EOFError from error

    def is_closing(self) -> bool:
        """Whether nothing more is sent."""
        return self._closed

    def close(self) -> None:
        """The session is over."""
        self._closed = True
