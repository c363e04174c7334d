"""Partition tables as the UEFI specification has them."""

from __future__ import annotations

import struct
import zlib
from typing import Any
from uuid import UUID

from isola.host.media.gpt import ESP, ROOTS, Partition, partition_table

MIB = 1 << 20
DISK = UUID(int=1)
PARTITIONS = (
    Partition(ESP, UUID(int=2), "ESP", MIB, 64 * MIB),
    Partition(ROOTS["x86_64"], UUID(int=3), "root", 65 * MIB, 30 * MIB),
)


def header(disk: bytes, sector: int) -> tuple[Any, ...]:
    found = disk[sector * 512 : sector * 512 + 92]
    fields = struct.unpack("<8sIIIIQQQQ16sQIII", found)
    assert fields[0] == b"EFI PART"
    assert fields[3] == zlib.crc32(found[:16] + bytes(4) + found[20:])
    table = disk[fields[10] * 512 :][: fields[11] * fields[12]]
    assert fields[13] == zlib.crc32(table)
    return fields


def test_both_tables_say_the_same() -> None:
    disk = partition_table(DISK, PARTITIONS, 96 * MIB).whole()
    last = 96 * MIB // 512 - 1
    first, backup = header(disk, 1), header(disk, last)
    assert (first[5], first[6], backup[5], backup[6]) == (1, last, last, 1)
    assert first[7:10] == backup[7:10] == (34, last - 33, DISK.bytes_le)
    assert disk[1024 : 1024 + 16384] == disk[backup[10] * 512 :][:16384]


def test_entries_name_type_id_and_place() -> None:
    disk = partition_table(DISK, PARTITIONS, 96 * MIB).whole()
    for number, partition in enumerate(PARTITIONS):
        entry = disk[1024 + 128 * number :][:128]
        assert (entry[:16], entry[16:32]) == (partition.kind.bytes_le, partition.id.bytes_le)
        first, last = struct.unpack_from("<QQ", entry, 32)
        assert (first * 512, (last + 1) * 512) == (partition.offset, partition.offset + partition.size)
        assert entry[56:].decode("utf-16-le").rstrip("\0") == partition.name
    assert not any(disk[1024 + 256 : 1024 + 16384])


def test_older_programs_see_one_partition() -> None:
    disk = partition_table(DISK, PARTITIONS, 96 * MIB).whole()
    assert disk[510:512] == b"\x55\xaa" and disk[450] == 0xEE
    assert struct.unpack_from("<II", disk, 454) == (1, 96 * MIB // 512 - 1)
