"""One SFTP session."""

from __future__ import annotations

import contextlib
import logging

from asyncssh.packet import SSHPacket
from asyncssh.sftp import SFTPBadMessage, SFTPFailure, SFTPLimits, SFTPServerHandler

from isola.doors.http.takeover import TakenOver
from isola.doors.rest.sftp.files import InstanceFiles, Publish
from isola.doors.rest.sftp.stream import SftpStream
from isola.host.files import Root

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # otherwise each session writes a line to the daemon's log
_VERSION = 3
_PACKET_LIMIT = 256 * 1024
"""Bytes of a packet, as in OpenSSH; clients send far less."""
_DATA_LIMIT = _PACKET_LIMIT - 1024
HANDLES = 256
"""Maximum number of open files and directories of a session."""
_NOT_OFFERED = (b"copy-data", b"ranges@asyncssh.com")
"""Extensions that are not offered: rarely used, and with unlimited cost."""


async def _limits(_: SFTPServerHandler, packet: SSHPacket) -> SFTPLimits:
    packet.check_end()
    return SFTPLimits(_PACKET_LIMIT, _DATA_LIMIT, _DATA_LIMIT, HANDLES)


class _Session(SFTPServerHandler):
    """asyncssh's protocol, one request at a time, with limits."""

    _extensions = [each for each in SFTPServerHandler._extensions if each[0] not in _NOT_OFFERED]  # noqa: RUF012

    def admit(self) -> None:
        """Check the bound of open handles. Raises SFTPFailure."""
        if len(self._file_handles) + len(self._dir_handles) >= HANDLES:
            raise SFTPFailure(f"More than {HANDLES} files and directories are open")

    async def recv_packet(self) -> SSHPacket:
        """Raises SFTPBadMessage, EOFError."""
        assert self._reader is not None
        length = int.from_bytes(await self._reader.readexactly(4), "big")
        if length > _PACKET_LIMIT:
            raise SFTPBadMessage("The packet is too large")
        return SSHPacket(await self._reader.readexactly(length))

    def _get_next_handle(self) -> bytes:
        self.admit()
        return super()._get_next_handle()

    _packet_handlers = {  # noqa: RUF012
        **{kind: work for kind, work in SFTPServerHandler._packet_handlers.items() if kind not in _NOT_OFFERED},
        b"limits@openssh.com": _limits,
    }


async def serve(connection: TakenOver, root: Root, publish: Publish) -> None:
    """Serve until the client closes. Handles that are still open are closed with the root."""
    stream = SftpStream(connection)
    session: _Session

    def admit() -> None:
        session.admit()

    files = InstanceFiles(stream, root, publish, admit)
    session = _Session(files, stream, stream, _VERSION)  # type: ignore[arg-type] # what of them it uses is there
    with contextlib.suppress(EOFError):
        await session.run()
        await stream.flush()
