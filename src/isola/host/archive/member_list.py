"""The list of the members of an untrusted tar stream, with the places of their content."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import BinaryIO

from isola.errors import InvalidInput, UnsafeArchive
from isola.host.archive.asking import Asking
from isola.host.archive.members import ArchiveMember
from isola.host.archive.packed import Unpacked
from isola.host.archive.tarstream import TarStream
from isola.host.archive.untar import clean

LONGEST_NAME = 1024


class Listing:
    """Reads a stream to its end, and copies it to ``output`` unless that is None."""

    def __init__(self, output: BinaryIO | None, *, most: int) -> None:
        self.members: list[dict[str, str]] = []
        """Attributes as texts: ``name`` in hexadecimal digits, ``mode``, ..., and those of its kind."""
        self._output = output
        self._most = most
        self._position = 0
        self._stored: int | None = 0
        """Size of the current member's content in the stream; None for a part of it, of a sparse file."""

    def run_file(self, file: BinaryIO, size: int) -> None:
        """List all members of an uncompressed file, whose content is not read. Raises UnsafeArchive, InvalidInput."""

        def skip(count: int) -> None:
            self._position += count
            if self._position > size:
                raise InvalidInput("The archive is truncated", evidence="a file ends after the end of the archive")
            file.seek(count, os.SEEK_CUR)

        self._list(TarStream(self._counting(file.read), skip), 0)

    def run_stream(self, asking: Asking) -> None:
        """List all members of a stream that is kept elsewhere. Raises UnsafeArchive, InvalidInput."""

        def skip(count: int) -> None:
            self._position += count
            if count:
                size = count if self._stored is None else self._stored
                asking.keep(size, count - size)

        self._list(TarStream(self._counting(asking.read), skip), 0)

    def run(self, content: Unpacked, *, only: int = 0) -> None:
        """List all members, or the first ``only`` ones. Raises UnsafeArchive, InvalidInput."""
        self._list(TarStream(self._counting(content.read)), only)
        if len(self.members) < only or not only:
            content.drain()

    def _list(self, stream: TarStream, only: int) -> None:
        seen = 0
        for member in stream.members():
            seen += 1
            self._stored = None if member.pieces is not None else member.stored
            name = b"/".join(clean(member.name))
            if seen > self._most or len(name) > LONGEST_NAME or len(member.link) > LONGEST_NAME:
                raise UnsafeArchive("The archive has too many or too long names", evidence=f"more than {self._most}")
            found = {"name": name.hex(), "mode": str(member.mode), "uid": str(member.uid), "gid": str(member.gid)}
            found["modified"] = str(max(0, member.mtime // 10**9))
            if member.kind == 0x30 and member.pieces is None:
                found |= {"offset": str(self._position), "size": str(member.size)}
            elif member.kind in (0x31, 0x32):
                found |= {"link": member.link.hex()} | ({"hard": "y"} if member.kind == 0x31 else {})
            elif member.kind == 0x35:
                found["directory"] = "y"
            elif not only:
                continue
            self.members.append(found)
            if seen == only:
                return

    def _counting(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        def counted(size: int) -> bytes:
            data = read(size)
            self._position += len(data)
            if self._output is not None:
                self._output.write(data)
            return data

        return counted


KEYS = ("name", "mode", "uid", "gid", "modified", "offset", "size", "link", "hard", "directory")


def member_of(found: Mapping[str, str]) -> ArchiveMember:
    """From such attributes, which may have any values. Raises ValueError."""
    numbers = [int(found.get(key, "0")) for key in ("offset", "size", "mode", "uid", "gid", "modified")]
    if not all(0 <= number < 1 << 62 for number in numbers):
        raise ValueError("a number is out of range")
    offset, size, mode, uid, gid, modified = numbers
    return ArchiveMember(
        os.fsdecode(bytes.fromhex(found.get("name", ""))),
        offset,
        size,
        os.fsdecode(bytes.fromhex(found.get("link", ""))),
        "hard" in found,
        "directory" in found,
        mode & 0o7777,
        uid,
        gid,
        modified,
    )
