"""GUID partition tables, as in the UEFI specification, chapter 5. Pure."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_OID, UUID, uuid5

from isola.host.media.pieces import SECTOR, Piece, Volume

Guid = UUID
ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOTS = {
    "x86_64": UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
    "aarch64": UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"),
}
"""Types of root partitions by architecture, which systemd-repart finds its partition by."""
ALIGNMENT = 1 << 20
"""Of partitions; also what is left free before the first and after the last one."""
_ENTRIES, _ENTRY_SIZE = 128, 128
_TABLE_SECTORS = _ENTRIES * _ENTRY_SIZE // SECTOR
_LONGEST_NAME = 36


def guid_of(text: str) -> Guid:
    """The same for the same text."""
    return uuid5(NAMESPACE_OID, text)


@dataclass(frozen=True, slots=True)
class Partition:
    """From an offset, ``size`` bytes; both are multiples of the alignment."""

    kind: Guid
    id: Guid
    name: str
    offset: int
    size: int

    def entry(self) -> bytes:
        name = self.name[:_LONGEST_NAME].encode("utf-16-le").ljust(2 * _LONGEST_NAME, b"\0")
        first, last = self.offset // SECTOR, (self.offset + self.size) // SECTOR - 1
        return self.kind.bytes_le + self.id.bytes_le + struct.pack("<QQQ", first, last, 0) + name


def partition_table(id: Guid, partitions: Sequence[Partition], size: int) -> Volume:
    """The table of a disk of ``size`` bytes with these partitions, at its beginning and at its end."""
    last = size // SECTOR - 1
    entries = b"".join(partition.entry() for partition in partitions).ljust(_ENTRIES * _ENTRY_SIZE, b"\0")
    backup = last - _TABLE_SECTORS
    return Volume(
        size,
        (
            Piece(0, _protective(last) + _header(id, entries, here=1, other=last, table=2, last=last) + entries),
            Piece(backup * SECTOR, entries + _header(id, entries, here=last, other=1, table=backup, last=last)),
        ),
    )


def _protective(last: int) -> bytes:
    """The sector that tells older programs that the disk is in use."""
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF))
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def _header(id: Guid, entries: bytes, *, here: int, other: int, table: int, last: int) -> bytes:
    usable = (2 + _TABLE_SECTORS, last - _TABLE_SECTORS - 1)

    def made(checksum: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART", 0x10000, 92, checksum, 0, here, other, *usable, id.bytes_le, table, _ENTRIES, _ENTRY_SIZE,
            zlib.crc32(entries),
        )  # fmt: skip

    return made(zlib.crc32(made(0))).ljust(SECTOR, b"\0")
