"""FAT16 file systems with long names, as Microsoft specified them in 2000. Pure; the same input gives the same bytes.

They are for what firmware and guests read: small, of few files, written once.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

from isola.host.media.pieces import SECTOR, Piece, Volume, rounded

_ROOT_ENTRIES = 512
_ENTRY = 32
_LEAST_CLUSTERS, _MOST_CLUSTERS = 4085 + 16, 65524
"""What makes it FAT16."""
_END = 0xFFFF
_DIRECTORY, _LABEL, _LONG_NAME, _ARCHIVE = 0x10, 0x08, 0x0F, 0x20
_SHORT = re.compile(r"[A-Z0-9_$~!#%&'@^`{}()-]{1,8}(\.[A-Z0-9_$~!#%&'@^`{}()-]{1,3})?", re.ASCII)
_LONGEST_NAME = 255
_FIRST = datetime(1980, 1, 1, tzinfo=UTC)


def fat(
    label: str, files: Mapping[str, bytes], *, size: int = 0, serial: int = 0, modified: datetime = _FIRST
) -> Volume:
    """A file system with ``files`` by relative paths, of ``size`` bytes or as large as necessary.

    Raises ValueError if they do not fit, or have impossible names.
    """
    top = _Directory()
    for path, data in sorted(files.items()):
        top.add(path.split("/"), data)
    shape = _shape(top, size)
    return _Writer(shape, max(modified, _FIRST)).write(label, top, serial)


@dataclass(slots=True)
class _Directory:
    entries: dict[str, _Directory | bytes] = field(default_factory=dict)

    def add(self, parts: list[str], data: bytes) -> None:
        name, rest = parts[0], parts[1:]
        if not 0 < len(name) <= _LONGEST_NAME or name in (".", "..") or set(name) & set('"*/:<>?\\|\0'):
            raise ValueError(f"a name that FAT does not have: {name[:80]!r}")
        if not rest:
            self.entries[name] = data
            return
        below = self.entries.setdefault(name, _Directory())
        if isinstance(below, bytes):
            raise ValueError(f"a file and a directory: {name[:80]!r}")
        below.add(rest, data)

    def size(self) -> int:
        """Bytes of its entries, with those for itself and its parent."""
        return _ENTRY * (2 + sum(1 + _long_entries(name) for name in self.entries))


def _long_entries(name: str) -> int:
    return 0 if _SHORT.fullmatch(name) else -(-len(name.encode("utf-16-le")) // 26)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Numbers of sectors and clusters."""

    sectors: int
    cluster: int
    """Bytes."""
    table: int
    """Sectors of one of the two tables."""

    @property
    def data(self) -> int:
        """The first sector of the data."""
        return 1 + 2 * self.table + _ROOT_ENTRIES * _ENTRY // SECTOR

    @property
    def clusters(self) -> int:
        return (self.sectors - self.data) * SECTOR // self.cluster


def _shape(top: _Directory, size: int) -> _Shape:
    if top.size() > _ROOT_ENTRIES * _ENTRY:
        raise ValueError("too many files in the root")
    cluster = SECTOR
    while cluster <= 1 << 15:
        used = sum(rounded(length, cluster) // cluster for length in _lengths(top, root=True))
        wanted = size // cluster if size else max(_LEAST_CLUSTERS, used + 8)
        if wanted <= _MOST_CLUSTERS:
            table = rounded(2 * (wanted + 2), SECTOR) // SECTOR
            fixed = 1 + 2 * table + _ROOT_ENTRIES * _ENTRY // SECTOR
            sectors = size // SECTOR if size else fixed + wanted * (cluster // SECTOR)
            shape = _Shape(sectors, cluster, table)
            if shape.clusters < max(used, _LEAST_CLUSTERS - 16):
                break
            return shape
        cluster *= 2
    raise ValueError("the files do not fit")


def _lengths(directory: _Directory, *, root: bool = False) -> Iterator[int]:
    if not root:
        yield directory.size()
    for entry in directory.entries.values():
        if isinstance(entry, bytes):
            yield len(entry)
        else:
            yield from _lengths(entry)


class _Writer:
    """Gives each file the next clusters, in one run."""

    def __init__(self, shape: _Shape, modified: datetime) -> None:
        self._shape = shape
        self._next = 2
        self._chains: list[int] = [0xFFF8, _END]
        self._pieces: list[Piece] = []
        day = (modified.year - 1980) << 9 | modified.month << 5 | modified.day
        self._stamp = struct.pack("<HH", modified.hour << 11 | modified.minute << 5 | modified.second // 2, day)

    def write(self, label: str, top: _Directory, serial: int) -> Volume:
        first = self._entry(label.encode("ascii").ljust(11)[:11], _LABEL, 0, 0)
        root = first + self._contents(top, 0, parent=None)
        shape = self._shape
        table = struct.pack(f"<{len(self._chains)}H", *self._chains)
        places = [
            Piece(0, self._boot_sector(label, serial)),
            Piece(SECTOR, table),
            Piece(SECTOR * (1 + shape.table), table),
            Piece(SECTOR * (1 + 2 * shape.table), root),
        ]
        return Volume(shape.sectors * SECTOR, (*places, *self._pieces))

    def _boot_sector(self, label: str, serial: int) -> bytes:
        shape = self._shape
        small = shape.sectors if shape.sectors < 65536 else 0
        head = struct.pack(
            "<3s8sHBHBHHBHHHII",
            b"\xeb\x3c\x90", b"ISOLA   ", SECTOR, shape.cluster // SECTOR, 1, 2, _ROOT_ENTRIES, small, 0xF8,
            shape.table, 32, 64, 0, 0 if small else shape.sectors,
        )  # fmt: skip
        name = label.encode("ascii").ljust(11)[:11]
        tail = struct.pack("<BBBI11s8s", 0x80, 0, 0x29, serial & 0xFFFFFFFF, name, b"FAT16   ")
        return (head + tail).ljust(SECTOR - 2, b"\0") + b"\x55\xaa"

    def _place(self, size: int) -> int:
        """The first of clusters for so many bytes; 0 for none."""
        count = rounded(size, self._shape.cluster) // self._shape.cluster
        if not count:
            return 0
        first = self._next
        self._next += count
        self._chains += [*range(first + 1, first + count), _END]
        return first

    def _put(self, first: int, data: bytes) -> None:
        if first:
            offset = self._shape.data * SECTOR + (first - 2) * self._shape.cluster
            self._pieces.append(Piece(offset, data))

    def _contents(self, directory: _Directory, own: int, parent: int | None) -> bytes:
        found = b""
        if parent is not None:
            found = self._entry(b".".ljust(11), _DIRECTORY, own, 0) + self._entry(
                b"..".ljust(11), _DIRECTORY, parent, 0
            )
        for number, (name, entry) in enumerate(sorted(directory.entries.items())):
            kind, size = (_ARCHIVE, len(entry)) if isinstance(entry, bytes) else (_DIRECTORY, entry.size())
            first = self._place(size)
            short = _short(name, number)
            found += b"".join(_long(name, short)) + self._entry(short, kind, first, size if kind == _ARCHIVE else 0)
            data = entry if isinstance(entry, bytes) else self._contents(entry, first, parent=own)
            self._put(first, data)
        return found

    def _entry(self, short: bytes, kind: int, first: int, size: int) -> bytes:
        time = self._stamp
        return (
            short
            + struct.pack("<BBB", kind, 0, 0)
            + time
            + time[2:]
            + bytes(2)
            + time
            + struct.pack("<HI", first, size)
        )


def _short(name: str, number: int) -> bytes:
    """The name of eight and three characters; numbered if the name is not one."""
    if _SHORT.fullmatch(name):
        base, _, ending = name.partition(".")
        return base.encode().ljust(8) + ending.encode().ljust(3)
    plain = re.sub(r"[^A-Z0-9]", "", name.upper())[:2]
    return f"{plain}~{number:04x}".encode().upper().ljust(8) + b"   "


def _long(name: str, short: bytes) -> Iterator[bytes]:
    """The entries of a long name, which come before that of the file, the last part first."""
    count = _long_entries(name)
    checksum = 0
    for byte in short:
        checksum = ((checksum >> 1) + ((checksum & 1) << 7) + byte) & 0xFF
    text = name.encode("utf-16-le")
    if len(text) < 26 * count:
        text = (text + b"\0\0").ljust(26 * count, b"\xff")
    parts = [text[start:end] for start, end in pairwise(range(0, 26 * count + 1, 26))]
    for number in range(count, 0, -1):
        part = parts[number - 1]
        order = number | (0x40 if number == count else 0)
        yield struct.pack("<B10sBBB12sH4s", order, part[:10], _LONG_NAME, 0, checksum, part[10:22], 0, part[22:])
