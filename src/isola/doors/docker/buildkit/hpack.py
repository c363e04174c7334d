"""Headers of HTTP/2 (RFC 7541). What is sent is neither indexed nor compressed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

Field = tuple[bytes, bytes]
_LENGTHS = (
    b"isxxxxxxxtzxxzxxxxxxxxzxxxxxxxxxbffhibdgffdgdbbbaaabbbbbbbcdkbhfibccccccccccccccccccccccdcdioijbkabababbbaccbbbabc"
    b"baabccccckgjixprpprrrsrssssststtrstssssqrsrsstrqprrssqsrrtqrssqqrqsrssprrrsrrsvvporsruvvvwwvtuoqvwwvwtqqvvxwwwptpqrqqs"
    b"rruuttvsvwvvwwwwwxwwwwwvz"
)
"""Bits of the code of each byte and of EOS, ``a`` for five: Huffman's code of HPACK is canonical."""
_END = 256
_STATIC = (
    ":authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 :status=204 "
    ":status=206 :status=304 :status=400 :status=404 :status=500 accept-charset accept-encoding=gzip,_deflate "
    "accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
    "content-disposition content-encoding content-language content-length content-location content-range content-type "
    "cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since "
    "last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after "
    "server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate"
)
_TABLE: tuple[Field, ...] = tuple(
    (name.encode(), value.replace("_", " ").encode())
    for name, _, value in (each.partition("=") for each in _STATIC.split())
)
_OVERHEAD = 32
"""Bytes that an entry counts beside its texts."""
_LARGEST = 4096
"""Bytes of the table of what was sent before, as clients may assume."""
_MOST = 1 << 20
"""Bytes of decoded headers of one block: a short reference may stand for a long text."""


def _codes() -> Mapping[tuple[int, int], int]:
    found, code, length = {}, 0, 0
    for symbol in sorted(range(len(_LENGTHS)), key=lambda each: (_LENGTHS[each], each)):
        bits = _LENGTHS[symbol] - ord("a") + 5
        code <<= bits - length
        length = bits
        found[bits, code] = symbol
        code += 1
    return found


_SYMBOLS = _codes()


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """A block of headers."""
    return b"".join(b"\0" + _text(name.encode()) + _text(value.encode()) for name, value in fields)


class Decoder:
    """Of one direction of a connection."""

    def __init__(self) -> None:
        self._kept: deque[Field] = deque()
        self._size = 0
        self._most = _LARGEST

    def decode(self, data: bytes) -> list[Field]:
        """All fields of a block. Raises ValueError for what is no such block; the connection is useless then."""
        found: list[Field] = []
        at = size = 0
        while at < len(data):
            first = data[at]
            if first & 0xE0 == 0x20:
                self._most, at = _number(data, at, 5)
                if self._most > _LARGEST:
                    raise ValueError("the table of headers is larger than agreed")
                self._shrink()
                continue
            field, at = self._field(data, at, first)
            size += _OVERHEAD + len(field[0]) + len(field[1])
            if size > _MOST:
                raise ValueError("the headers are too long")
            found.append(field)
        return found

    def _field(self, data: bytes, at: int, first: int) -> tuple[Field, int]:
        if first & 0x80:
            index, at = _number(data, at, 7)
            return self._indexed(index), at
        index, at = _number(data, at, 6 if first & 0x40 else 4)
        if index:
            name = self._indexed(index)[0]
        else:
            name, at = _read_text(data, at)
        value, at = _read_text(data, at)
        if first & 0x40:
            self._kept.appendleft((name, value))
            self._size += _OVERHEAD + len(name) + len(value)
            self._shrink()
        return (name, value), at

    def _indexed(self, index: int) -> Field:
        if 0 < index <= len(_TABLE):
            return _TABLE[index - 1]
        if 0 <= index - len(_TABLE) - 1 < len(self._kept):
            return self._kept[index - len(_TABLE) - 1]
        raise ValueError("no such entry in the table of headers")

    def _shrink(self) -> None:
        while self._size > self._most:
            name, value = self._kept.pop()
            self._size -= _OVERHEAD + len(name) + len(value)


def _number(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer in the low ``bits`` and what follows, and where it ends."""
    most = (1 << bits) - 1
    found, shift = data[at] & most, 0
    at += 1
    if found < most:
        return found, at
    while at < len(data) and shift <= 28:
        found += (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return found, at
        shift += 7
    raise ValueError("a number in the headers does not end")


def _read_text(data: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(data):
        raise ValueError("the headers end too early")
    packed = bool(data[at] & 0x80)
    size, at = _number(data, at, 7)
    if at + size > len(data):
        raise ValueError("the headers end too early")
    text = data[at : at + size]
    return (_unpacked(text) if packed else text), at + size


def _unpacked(data: bytes) -> bytes:
    found, code, length = bytearray(), 0, 0
    for byte in data:
        for shift in range(7, -1, -1):
            code, length = code << 1 | (byte >> shift & 1), length + 1
            symbol = _SYMBOLS.get((length, code))
            if symbol is None:
                continue
            if symbol == _END:
                raise ValueError("the end of a text is inside it")
            found.append(symbol)
            code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise ValueError("a text is padded wrongly")
    return bytes(found)


def _text(data: bytes) -> bytes:
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, head = len(data) - 127, b"\x7f"
    while rest >= 128:
        head += bytes((rest % 128 + 128,))
        rest //= 128
    return head + bytes((rest,)) + data
