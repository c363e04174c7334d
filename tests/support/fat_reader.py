"""Reads FAT16 file systems, as their specification has them."""

from __future__ import annotations

import struct
from collections.abc import Mapping


def read(volume: bytes) -> Mapping[str, bytes]:
    """All files, by long names."""
    (sector, per_cluster, reserved, tables, entries) = struct.unpack_from("<HBHBH", volume, 11)
    table_size = struct.unpack_from("<H", volume, 22)[0]
    table = struct.unpack_from(f"<{table_size * sector // 2}H", volume, reserved * sector)
    root = (reserved + tables * table_size) * sector
    data, cluster = root + entries * 32, per_cluster * sector
    assert volume[reserved * sector :][: table_size * sector] == volume[root - table_size * sector : root]

    def chain(first: int) -> bytes:
        found, seen = [], set()
        while first and first < 0xFFF8:
            assert first not in seen
            seen.add(first)
            start = data + (first - 2) * cluster
            found.append(volume[start : start + cluster])
            first = table[first]
        return b"".join(found)

    def walk(listing: bytes, at: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        long = b""
        for place in range(0, len(listing), 32):
            entry = listing[place : place + 32]
            if not entry or not entry[0]:
                break
            if entry[11] == 0x0F:
                long = entry[1:11] + entry[14:26] + entry[28:32] + long
                continue
            name = long.decode("utf-16-le").split("\0")[0].rstrip("\uffff")
            short = (entry[:8].decode().rstrip() + "." + entry[8:11].decode().rstrip()).rstrip(".")
            long = b""
            first, size = struct.unpack_from("<HI", entry, 26)
            if entry[11] & 0x08 or entry[:1] == b".":
                continue
            path = at + (name or short)
            if entry[11] & 0x10:
                found |= walk(chain(first), path + "/")
            else:
                found[path] = chain(first)[:size]
        return found

    return walk(volume[root:data], "")
