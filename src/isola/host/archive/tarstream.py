"""Reads untrusted tar streams (ustar, pax, GNU; sparse files too): every size is checked before data is read.

Without I/O: it calls a ``read`` that returns exactly the requested number of bytes, or fewer at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from isola.errors import InvalidInput, UnsafeArchive

Read = Callable[[int], bytes]
BLOCK = 512
_EXTENSION_LIMIT = 1 << 20
"""Maximum bytes of an extended header or long name."""
_SPARSE_LIMIT = 1 << 18
"""Maximum number of data segments of a sparse file."""
_RECORDS = 4096
"""Maximum number of records of an extended header, not counting segments of sparse files."""
_IN_A_ROW = 32
"""Maximum number of extended headers before a member; GNU tar writes at most three."""
_ATTRIBUTES = 256
"""Maximum number of extended attributes of a member."""
_DIGITS = 19
_XATTR = b"SCHILY.xattr."
_FOR_ALL = (b"uid", b"gid", b"mtime")
"""Keys of a global header. Attributes are excluded, because a few bytes would be written again for every member."""
_DATA_LIMIT = 1 << 62
_TIME_LIMIT = 1 << 33
_NO_DATA = frozenset(b"123456")
_KNOWN = frozenset(b"0123456")


@dataclass(slots=True)
class Member:
    """One entry. ``kind`` is its type flag: 0 file, 1 hard link, 2 symlink, 3 4 devices, 5 directory, 6 FIFO."""

    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    mtime: int
    """Nanoseconds."""
    stored: int
    """Size of the data that follows in the stream."""
    size: int
    """Size of the file once unpacked."""
    link: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    pieces: Sequence[tuple[int, int]] | None = None
    """(offset, length) of each data segment of a sparse file."""


class TarStream:
    """An iterator of members; unread data of a member is skipped."""

    def __init__(self, read: Read, skip: Callable[[int], None] | None = None) -> None:
        """``skip`` passes over bytes that follow those read so far, without reading them."""
        self._read = read
        self._pass_over = skip
        self._left = 0
        self._padding = 0
        self._defaults: dict[bytes, bytes] = {}

    def members(self) -> Iterator[Member]:
        """All members in order. Raises InvalidInput if it is not a tar archive or is damaged."""
        first = True
        while (header := self._header(first)) is not None:
            first = False
            member = self._member(header)
            if member is not None:
                self._left, self._padding = member.stored, -member.stored % BLOCK
                if member.pieces == ():
                    self._read_sparse_map(member)
                yield member
                self._skip()

    def blocks(self, limit: int = 1 << 20) -> Iterator[bytes]:
        """The data of the current member."""
        while self._left:
            block = self._read(min(limit, self._left))
            if not block:
                raise InvalidInput("The archive is truncated", evidence=f"{self._left} bytes of a file are missing")
            self._left -= len(block)
            yield block

    def exactly(self, size: int) -> bytes:
        """The next bytes of the current member's data."""
        data = self._read(size)
        if len(data) != size or size > self._left:
            raise InvalidInput(
                "The archive is truncated or damaged", evidence="a file has less data than its header states"
            )
        self._left -= size
        return data

    def _skip(self) -> None:
        if self._pass_over is not None:
            self._pass_over(self._left + self._padding)
            self._left = self._padding = 0
        for _ in self.blocks():
            pass
        # Some writers, such as docker's for a Dockerfile from standard input, end with the last file's data.
        if len(self._read(self._padding)) not in (0, self._padding):
            raise InvalidInput("The archive is truncated", evidence="it ends in the middle of a block")
        self._padding = 0

    def _header(self, first: bool) -> bytes | None:
        header = self._read(BLOCK)
        if not header.strip(b"\0"):
            if first and not header:
                raise InvalidInput("The archive is empty")
            return None
        if len(header) != BLOCK:
            raise InvalidInput("The archive is truncated", evidence="it ends in the middle of a header")
        if not _checksum_holds(header):
            raise InvalidInput(
                "This is not a tar archive" if first else "The archive is damaged",
                evidence="a header has a wrong checksum",
            )
        return header

    def _member(self, header: bytes) -> Member | None:
        """A member, with the values of the extended headers before it."""
        extra: dict[bytes, bytes] = {}
        sparse: list[bytes] = []
        count = 0
        while (kind := header[156]) in b"xXgLK":
            count += 1
            if count > _IN_A_ROW:
                raise UnsafeArchive("The archive has too many extended headers in a row")
            data = self._extension(_number(header[124:136], "size", _DATA_LIMIT))
            if kind in b"LK":
                extra[b"path" if kind == 0x4C else b"linkpath"] = data.split(b"\0", 1)[0]
            elif kind in b"xX":
                _parse_pax(data, extra, sparse)
            else:
                self._take_defaults(data)
            following = self._header(False)
            if following is None:
                if kind in b"g":
                    return None
                raise InvalidInput(
                    "The archive is truncated", evidence="an extended header is not followed by a member"
                )
            header = following
        return self._build(header, {**self._defaults, **extra}, sparse)

    def _take_defaults(self, data: bytes) -> None:
        records = dict(self._defaults)
        _parse_pax(data, records, [])
        self._defaults = {key: records[key] for key in _FOR_ALL if key in records}

    def _extension(self, size: int) -> bytes:
        if size > _EXTENSION_LIMIT:
            raise UnsafeArchive("The archive has an extended header that is too large", evidence=f"{size} bytes")
        padded = size + -size % BLOCK
        data = self._read(padded)
        if len(data) != padded:
            raise InvalidInput("The archive is truncated", evidence="it ends in an extended header")
        return data[:size]

    def _build(self, header: bytes, extra: dict[bytes, bytes], sparse: list[bytes]) -> Member:
        kind = header[156] or 0x30
        name = extra.get(b"GNU.sparse.name") or extra.get(b"path") or _name(header)
        if kind == 0x37:  # contiguous files are files
            kind = 0x30
        if kind == 0x30 and name.endswith(b"/"):
            kind = 0x35  # directories in archives older than POSIX
        stored = _decimal(extra, b"size", _DATA_LIMIT)
        stored = _number(header[124:136], "size", _DATA_LIMIT) if stored is None else stored
        if kind in _NO_DATA:
            stored = 0
        uid, gid = _decimal(extra, b"uid", 2**32 - 2), _decimal(extra, b"gid", 2**32 - 2)
        member = Member(
            name=name,
            kind=0x30 if kind == 0x53 else kind,
            mode=_number(header[100:108], "mode", _DATA_LIMIT) & 0o7777,
            uid=_number(header[108:116], "owner", 2**32 - 2) if uid is None else uid,
            gid=_number(header[116:124], "group", 2**32 - 2) if gid is None else gid,
            mtime=_time(extra, header),
            stored=stored,
            size=stored,
            link=extra.get(b"linkpath") or header[157:257].split(b"\0", 1)[0],
            xattrs={key[len(_XATTR) :]: value for key, value in extra.items() if key.startswith(_XATTR)},
        )
        if len(member.xattrs) > _ATTRIBUTES:
            raise UnsafeArchive("The archive has a file with too many extended attributes", evidence=repr(name[:200]))
        self._describe_sparse(member, kind, header, extra, sparse)
        return member

    def _describe_sparse(
        self, member: Member, kind: int, header: bytes, extra: dict[bytes, bytes], sparse: list[bytes]
    ) -> None:
        if kind == 0x53:
            member.size = _number(header[483:495], "size", _DATA_LIMIT)
            member.pieces = self._old_sparse_map(header)
        elif b"GNU.sparse.major" in extra:
            member.size = _decimal(extra, b"GNU.sparse.realsize", _DATA_LIMIT) or 0
            member.pieces = ()  # the map precedes the data
            return
        elif b"GNU.sparse.size" in extra:
            member.size = _decimal(extra, b"GNU.sparse.size", _DATA_LIMIT) or 0
            numbers = extra[b"GNU.sparse.map"].split(b",") if b"GNU.sparse.map" in extra else sparse
            member.pieces = _pairs([_digits(number) for number in numbers])
        if member.pieces is not None:
            _check_pieces(member)

    def _old_sparse_map(self, header: bytes) -> list[tuple[int, int]]:
        pieces = _table(header[386:482])
        more = header[482]
        while more:
            block = self._read(BLOCK)
            if len(block) != BLOCK or len(pieces) > _SPARSE_LIMIT:
                raise InvalidInput("The archive is damaged", evidence="the map of a sparse file does not end")
            pieces += _table(block[:504])
            more = block[504]
        return pieces

    def _read_sparse_map(self, member: Member) -> None:
        """GNU sparse format 1.0: decimal lines at the beginning of the data, padded to a block."""
        numbers: list[int] = []
        rest, wanted = b"", 1
        while len(numbers) < wanted:
            *lines, rest = (rest + self.exactly(BLOCK)).split(b"\n")
            numbers += map(_digits, lines[: wanted - len(numbers)])
            if numbers and wanted == 1:
                wanted += 2 * numbers[0]
                numbers += map(_digits, lines[1:wanted])
            if wanted > 2 * _SPARSE_LIMIT or len(rest) > max(_DIGITS, BLOCK * (len(numbers) == wanted)):
                raise UnsafeArchive("The archive has a sparse file with too many or too large segments")
        member.pieces = _pairs(numbers[1:])
        member.stored = self._left
        _check_pieces(member)


def _checksum_holds(header: bytes) -> bool:
    try:
        checksum = int(header[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    plain = sum(header) - sum(header[148:156]) + 8 * 32
    if checksum == plain:
        return True
    return checksum == plain - 256 * sum(
        byte > 127 for byte in header[:148] + header[156:]
    )  # old tars summed signed bytes


def _number(field_: bytes, what: str, limit: int) -> int:
    """Octal text, or base 256 if the first byte marks it."""
    if field_[0] == 0x80:
        value = int.from_bytes(field_[1:], "big")
    else:
        try:
            value = int(field_.split(b"\0", 1)[0].strip() or b"0", 8)
        except ValueError:
            value = -1
    if not 0 <= value <= limit:
        raise InvalidInput("The archive is damaged", evidence=f"a {what} is not a number in range")
    return value


def _digits(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _DIGITS:
        raise InvalidInput("The archive is damaged", evidence=f"{digits[:40]!r} is not a number")
    return int(digits)


def _decimal(extra: dict[bytes, bytes], key: bytes, limit: int) -> int | None:
    if key not in extra:
        return None
    value = _digits(extra[key])
    if value > limit:
        raise InvalidInput("The archive is damaged", evidence=f"{key.decode()} is not a number in range")
    return value


def _time(extra: dict[bytes, bytes], header: bytes) -> int:
    """Nanoseconds, clamped to the range that file systems can store."""
    if b"mtime" in extra:
        sign = -1 if extra[b"mtime"].startswith(b"-") else 1
        whole, _, part = extra[b"mtime"].lstrip(b"-").partition(b".")
        fraction = int(part[:9].ljust(9, b"0")) if part.isdigit() else 0
        return sign * (min(_digits(whole), _TIME_LIMIT) * 10**9 + fraction)
    if header[136] == 0xFF:  # before 1970, in base 256
        return max(int.from_bytes(header[136:148], "big", signed=True), -(2**31)) * 10**9
    return min(_number(header[136:148], "time", 1 << 88), _TIME_LIMIT) * 10**9


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def _parse_pax(data: bytes, into: dict[bytes, bytes], sparse: list[bytes]) -> None:
    position = records = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        end = position + (_digits(data[position:space]) if space > position else 0)
        record = data[space + 1 : end] if position < space < end <= len(data) else b""
        key, equals, value = record[:-1].partition(b"=")
        if not equals or not record.endswith(b"\n"):
            raise InvalidInput("The archive is damaged", evidence="an extended header cannot be parsed")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse.append(value)
        elif value or key.startswith(_XATTR):
            into[key] = value
        else:
            into.pop(key, None)
        position = end
        records += 1
        if records - len(sparse) > _RECORDS or len(sparse) > 2 * _SPARSE_LIMIT:
            raise UnsafeArchive("The archive has an extended header with too many records")


def _table(data: bytes) -> list[tuple[int, int]]:
    found = []
    for start in range(0, len(data) - 23, 24):
        if not data[start + 12]:
            break
        offset = _number(data[start : start + 12], "sparse offset", _DATA_LIMIT)
        found.append((offset, _number(data[start + 12 : start + 24], "sparse size", _DATA_LIMIT)))
    return found


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2 or len(numbers) > 2 * _SPARSE_LIMIT:
        raise InvalidInput("The archive is damaged", evidence="the map of a sparse file has an odd number of values")
    return [
        piece for piece in zip(numbers[::2], numbers[1::2], strict=True) if piece[1]
    ]  # GNU tar ends with an empty one


def _check_pieces(member: Member) -> None:
    end = total = 0
    for offset, length in member.pieces or ():
        if offset < end:
            raise InvalidInput("The archive is damaged", evidence="segments of a sparse file overlap")
        end = offset + length
        total += length
    if end > member.size or total != member.stored:
        raise InvalidInput("The archive is damaged", evidence="the segments of a sparse file do not match its size")
