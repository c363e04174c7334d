"""Messages of protocol buffers, without their schemas: fields by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_SIGN, _WORD = 1 << 63, 1 << 64
Value = int | str | bytes | bool | Mapping[str, str] | Mapping[str, bytes] | Sequence["Value"] | None


class Message:
    """A decoded message; a field that is absent has its default."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError."""
        self._fields: dict[int, list[int | bytes]] = {}
        at = 0
        while at < len(data):
            tag, at = _varint(data, at)
            kind = tag & 7
            if kind == _VARINT:
                value: int | bytes
                value, at = _varint(data, at)
            else:
                size, at = _varint(data, at) if kind == _BYTES else (_SIZES.get(kind, -1), at)
                if size < 0 or at + size > len(data):
                    raise ValueError("the message is malformed")
                value, at = data[at : at + size], at + size
            self._fields.setdefault(tag >> 3, []).append(value)

    def blobs(self, number: int) -> list[bytes]:
        """All values of a repeated field."""
        return [value for value in self._fields.get(number, ()) if isinstance(value, bytes)]

    def blob(self, number: int) -> bytes:
        """The last value."""
        return (self.blobs(number) or [b""])[-1]

    def text(self, number: int) -> str:
        """Raises ValueError for what is not UTF-8."""
        return self.blob(number).decode()

    def number(self, number: int) -> int:
        """A signed integer."""
        found = [value for value in self._fields.get(number, ()) if isinstance(value, int)]
        value = found[-1] if found else 0
        return value - _WORD if value & _SIGN else value

    def has(self, number: int) -> bool:
        return number in self._fields

    def inside(self, number: int) -> Message:
        """A message in this one; an empty one if it is absent."""
        return Message(self.blob(number))

    def messages(self, number: int) -> list[Message]:
        """All of a repeated field."""
        return [Message(data) for data in self.blobs(number)]

    def texts(self, number: int) -> dict[str, str]:
        """A map of texts."""
        return {each.text(1): each.text(2) for each in self.messages(number)}


def message(fields: Mapping[int, Value]) -> bytes:
    """Encoded: numbers, texts, bytes (also other messages), maps, and lists of them; defaults are left out."""
    return b"".join(_field(number, value) for number, value in fields.items())


def timestamp(nanoseconds: int) -> bytes:
    """``google.protobuf.Timestamp``."""
    return message({1: nanoseconds // 10**9, 2: nanoseconds % 10**9})


def _field(number: int, value: Value) -> bytes:
    if value is None or value is False or (isinstance(value, int) and value == 0) or value == "":
        return b""
    if isinstance(value, int):
        return _varint_of(number << 3) + _varint_of(value % _WORD)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return _varint_of(number << 3 | _BYTES) + _varint_of(len(value)) + value
    if isinstance(value, Mapping):
        return b"".join(_field(number, message({1: name, 2: each})) for name, each in value.items())
    return b"".join(_field(number, each) for each in value)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found, shift = 0, 0
    while at < len(data) and shift < 64:
        byte = data[at]
        found |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return found % _WORD, at
    raise ValueError("the message is malformed")


def _varint_of(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
