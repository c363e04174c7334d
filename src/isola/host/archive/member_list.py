"""The list of the members of an untrusted tar stream, with the places of their content."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from isola.errors import UnsafeArchive
from isola.host.archive.packed import Unpacked
from isola.host.archive.tarstream import TarStream
from isola.host.archive.untar import clean

LONGEST_NAME = 1024


class Listing:
    """Reads a stream to its end, and copies it to ``output`` unless that is None."""

    def __init__(self, output: BinaryIO | None, *, most: int) -> None:
        self.members: list[dict[str, str]] = []
        """``name`` in hexadecimal digits, and ``offset`` and ``size``, or ``link`` and perhaps ``hard``."""
        self._output = output
        self._most = most
        self._position = 0

    def run(self, content: Unpacked, *, only: int = 0) -> None:
        """List all members, or the first ``only`` ones. Raises UnsafeArchive, InvalidInput."""
        stream = TarStream(self._counting(content.read))
        seen = 0
        for member in stream.members():
            seen += 1
            name = b"/".join(clean(member.name))
            if seen > self._most or len(name) > LONGEST_NAME or len(member.link) > LONGEST_NAME:
                raise UnsafeArchive("The archive has too many or too long names", evidence=f"more than {self._most}")
            found = {"name": name.hex()}
            if member.kind == 0x30 and member.pieces is None:
                found |= {"offset": str(self._position), "size": str(member.size)}
            elif member.kind in (0x31, 0x32):
                found |= {"link": member.link.hex()} | ({"hard": "y"} if member.kind == 0x31 else {})
            elif not only:
                continue
            self.members.append(found)
            if seen == only:
                return
        content.drain()

    def _counting(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        def counted(size: int) -> bytes:
            data = read(size)
            self._position += len(data)
            if self._output is not None:
                self._output.write(data)
            return data

        return counted


def text_of(digits: str) -> str:
    """A name from its hexadecimal digits. Raises ValueError."""
    return os.fsdecode(bytes.fromhex(digits))
