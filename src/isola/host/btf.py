"""Types and functions of the running kernel, as it describes them itself (BTF)."""

from __future__ import annotations

import struct
from pathlib import Path

_FILE = Path("/sys/kernel/btf/vmlinux")
_HEADER, _TYPE, _MEMBER = struct.Struct("<HBBIIIII"), struct.Struct("<III"), struct.Struct("<III")
_MAGIC = 0xEB9F
_STRUCT, _UNION, _FUNCTION = 4, 5, 12
_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
"""Bytes that follow a type of this kind."""
_PER_PART = {_STRUCT: 12, _UNION: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""The same for each of its parts."""


class KernelTypes:
    """Reading takes some 0.2 s: in a thread."""

    def __init__(self, data: bytes | None = None) -> None:
        """Raises OSError if the kernel does not describe itself, ValueError."""
        data = _FILE.read_bytes() if data is None else data
        magic, _, _, length, types, size, texts, text_size = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("the kernel describes its types in an unknown form")
        self._types = memoryview(data)[length + types : length + types + size]
        self._texts = data[length + texts : length + texts + text_size]
        self._places: list[int] = [0]
        place = 0
        while place < size:
            self._places.append(place)
            _, info, _ = _TYPE.unpack_from(self._types, place)
            kind = info >> 24 & 0x1F
            place += _TYPE.size + _FIXED.get(kind, 0) + _PER_PART.get(kind, 0) * (info & 0xFFFF)

    def function(self, name: str) -> int:
        """Its number. Raises KeyError."""
        return self._find(name, _FUNCTION)

    def offset(self, struct_name: str, *path: str) -> int:
        """The place of a member of a member ... in a structure, in bytes. Raises KeyError."""
        number, offset = self._find(struct_name, _STRUCT), 0
        for member in path:
            found = self._member(number, member)
            if found is None:
                raise KeyError(f"{struct_name}.{member}")
            number, offset = found[0], offset + found[1]
        return offset

    def _find(self, name: str, kind: int) -> int:
        wanted = self._text(name)
        for number, place in enumerate(self._places[1:], 1):
            text, info, _ = _TYPE.unpack_from(self._types, place)
            if text in wanted and info >> 24 & 0x1F == kind:
                return number
        raise KeyError(name)

    def _text(self, name: str) -> frozenset[int]:
        """All places at which it stands: the kernel may have it more than once."""
        wanted, found, place = b"\0" + name.encode() + b"\0", [], -1
        while (place := self._texts.find(wanted, place + 1)) >= 0:
            found.append(place + 1)
        return frozenset(found)

    def _member(self, number: int, name: str) -> tuple[int, int] | None:
        """Type and offset; those of members without a name count as its own."""
        place = self._places[number]
        _, info, _ = _TYPE.unpack_from(self._types, place)
        if info >> 24 & 0x1F not in (_STRUCT, _UNION):
            return None
        wanted = self._text(name)
        for index in range(info & 0xFFFF):
            text, type, at = _MEMBER.unpack_from(self._types, place + _TYPE.size + index * _MEMBER.size)
            offset = (at & 0xFFFFFF if info >> 31 else at) // 8
            if text in wanted:
                return type, offset
            if not text and (deeper := self._member(type, name)) is not None:
                return deeper[0], offset + deeper[1]
        return None
