"""Programs in the kernel, by bpf(2), and the tables that they write: as much of it as recording needs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Iterator

_NUMBER = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 321)
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_NEXT_KEY, _PROG_LOAD, _TRACEPOINT_OPEN = 0, 1, 2, 4, 5, 17
_PROG_ATTACH, _PROG_DETACH, _PROG_BY_ID, _MAP_BY_ID, _INFO, _PROG_QUERY, _LINK = 8, 9, 13, 14, 15, 16, 28
_HASH = 1
_SOCKET_ADDRESS, _SEVERAL, _REPLACE = 18, 2, 4
_MOST_PROGRAMS = 64
RAW_TRACEPOINT, TRACING = 17, 26
FENTRY, FEXIT = 24, 25
_LOG_SIZE = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)

# Operations of instructions, as <linux/bpf.h> has them: those that programs of this package use.
MOVE, MOVE_IMMEDIATE, MOVE_LOWER, ADD_IMMEDIATE, AND_IMMEDIATE = 0xBF, 0xB7, 0xBC, 0x07, 0x57
LOAD_8, LOAD_4, LOAD_1, STORE_4, STORE_IMMEDIATE_8 = 0x79, 0x61, 0x71, 0x63, 0x7A
JUMP_IF_NOT_EQUAL, JUMP_IF_EQUAL, JUMP_IF_BELOW, JUMP_IF_NOT_BELOW = 0x55, 0x15, 0xAD, 0x3D
JUMP, JUMP_IF_LESS, JUMP_IF_GREATER, JUMP_IF_NOT_GREATER = 0x05, 0xA5, 0x25, 0xB5
OR, OR_IMMEDIATE, SHIFT_LEFT_IMMEDIATE, TO_HOST_ORDER, ATOMIC_ADD_8 = 0x4F, 0x47, 0x67, 0xDC, 0xDB
_CALL, EXIT, _LOAD_WIDE = 0x85, 0x95, 0x18
LOOKUP, UPDATE, UID_GID, COMMAND, PROBE_READ, CURRENT_TASK = 1, 2, 15, 16, 113, 158
STACK = 10
"""The register that leads to the end of the stack."""


class Code:
    """Instructions, with jumps to names."""

    def __init__(self) -> None:
        self._made: list[tuple[int, int, int, int, int]] = []
        self._jumps: dict[int, str] = {}
        self._places: dict[str, int] = {}

    def add(self, operation: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> None:
        self._made.append((operation, target, source, offset, value))

    def wide(self, target: int, value: int, source: int = 0) -> None:
        """A number of 64 bits; with ``source`` 1 it is the descriptor of a table."""
        self.add(_LOAD_WIDE, target, source, 0, value & 0xFFFFFFFF)
        self.add(0, 0, 0, 0, value >> 32)

    def jump(self, operation: int, target: int, to: str, *, source: int = 0, value: int = 0) -> None:
        self._jumps[len(self._made)] = to
        self.add(operation, target, source, 0, value)

    def call(self, function: int) -> None:
        self.add(_CALL, value=function)

    def point(self, register: int, place: int) -> None:
        """Let a register lead to a place of the stack."""
        self.add(MOVE, register, STACK)
        self.add(ADD_IMMEDIATE, register, value=place & 0xFFFFFFFF)

    def look_up(self, table: Table, key: int) -> None:
        """Register 0 leads to the value of the key at a place of the stack, or is 0."""
        self.wide(1, table.descriptor, 1)
        self.point(2, key)
        self.call(LOOKUP)

    def enter(self, table: Table, key: int, value: int) -> None:
        """Write an entry; key and value are at places of the stack."""
        self.wide(1, table.descriptor, 1)
        self.point(2, key)
        self.point(3, value)
        self.add(MOVE_IMMEDIATE, 4)
        self.call(UPDATE)

    def place(self, name: str) -> None:
        self._places[name] = len(self._made)

    def encode(self) -> bytes:
        packed = []
        for number, (operation, target, source, offset, value) in enumerate(self._made):
            away = self._places[self._jumps[number]] - number - 1 if number in self._jumps else offset
            signed = value - (1 << 32) if value >= 1 << 31 else value
            packed.append(struct.pack("<BBhi", operation, target | source << 4, away, signed))
        return b"".join(packed)


class Table:
    """A hash table that programs in the kernel write."""

    def __init__(self, key_size: int, value_size: int, entries: int, *, descriptor: int = -1) -> None:
        """``descriptor``: that of an existing one. Raises OSError."""
        self.key_size, self.value_size = key_size, value_size
        made = struct.pack("<IIIII", _HASH, key_size, value_size, entries, 0)
        self.descriptor = descriptor if descriptor >= 0 else _bpf(_MAP_CREATE, made)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values; some may be missed or seen again while others are added."""
        key: bytes | None = None
        while True:
            here, after = (
                ctypes.create_string_buffer(key or b"", self.key_size),
                ctypes.create_string_buffer(self.key_size),
            )
            before = ctypes.addressof(here) if key is not None else 0
            try:
                _bpf(_MAP_NEXT_KEY, struct.pack("<IxxxxQQQ", self.descriptor, before, ctypes.addressof(after), 0))
            except FileNotFoundError:
                return
            key, value = after.raw, ctypes.create_string_buffer(self.value_size)
            packed = struct.pack("<IxxxxQQQ", self.descriptor, ctypes.addressof(after), ctypes.addressof(value), 0)
            try:
                _bpf(_MAP_LOOKUP, packed)
            except FileNotFoundError:
                continue
            yield key, value.raw

    def close(self) -> None:
        os.close(self.descriptor)


def attach(code: Code, kind: int, *, tracepoint: str = "", function: int = 0, when: int = 0) -> int:
    """Load a program and attach it; returns the descriptor that keeps it attached. Raises OSError."""
    program = _load(code, kind, "isola", when=when, function=function)
    try:
        name = ctypes.create_string_buffer(tracepoint.encode())
        return _bpf(_TRACEPOINT_OPEN, struct.pack("<QIxxxx", ctypes.addressof(name) if tracepoint else 0, program))
    finally:
        os.close(program)


def _load(code: Code, kind: int, name: str, *, when: int, function: int = 0) -> int:
    made, license = ctypes.create_string_buffer(code.encode()), ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(_LOG_SIZE)
    head = struct.pack(
        "<IIQQIIQII16sII", kind, (len(made) - 1) // 8, ctypes.addressof(made), ctypes.addressof(license),
        0, 0, 0, 0, 0, name.encode(), 0, when,
    )  # fmt: skip
    attributes = head + struct.pack("<IIQIIQIII", 0, 0, 0, 0, 0, 0, 0, function, 0)
    try:
        return _bpf(_PROG_LOAD, attributes)
    except OSError as error:
        again = bytearray(attributes)
        struct.pack_into("<IIQ", again, 24, 1, _LOG_SIZE, ctypes.addressof(log))
        try:
            os.close(_bpf(_PROG_LOAD, bytes(again)))
        except OSError:
            raise OSError(error.errno, f"{error.strerror}: {log.value[-400:].decode(errors='replace')}") from error
        raise


# --- programs of control groups ---------------------------------------------------------------------------------------


def load_for_group(code: Code, point: int, name: str) -> int:
    """A program about addresses of sockets. Raises OSError."""
    return _load(code, _SOCKET_ADDRESS, name, when=point)


def attach_to_group(group: int, program: int, point: int, *, replace: int | None = None) -> None:
    """Until the group is removed, in place of another program or beside those that are there. Raises OSError."""
    flags = _SEVERAL | (_REPLACE if replace is not None else 0)
    _bpf(_PROG_ATTACH, struct.pack("<IIIII", group, program, point, flags, 0 if replace is None else replace))


def detach_from_group(group: int, program: int, point: int) -> None:
    """Raises OSError."""
    _bpf(_PROG_DETACH, struct.pack("<IIIII", group, program, point, 0, 0))


def link_to_group(group: int, program: int, point: int) -> int:
    """The same until the returned descriptor is closed. Raises OSError."""
    return _bpf(_LINK, struct.pack("<IIII", program, group, point, 0))


def programs_of_group(group: int, point: int) -> Iterator[int]:
    """Descriptors of the programs that are attached to it, for the caller to close. Raises OSError."""
    found = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    asked = struct.pack("<IIIIQIxxxxQ", group, point, 0, 0, ctypes.addressof(found), _MOST_PROGRAMS, 0)
    buffer = ctypes.create_string_buffer(asked, 144)
    _bpf(_PROG_QUERY, buffer)
    for number in found[: struct.unpack_from("<I", buffer, 24)[0]]:
        with contextlib.suppress(FileNotFoundError):
            yield _bpf(_PROG_BY_ID, struct.pack("<III", number, 0, 0))


def name_of(program: int) -> str:
    """As it was loaded."""
    return bytes(_info(program)[64:80]).rstrip(b"\0").decode("ascii", "replace")


def tables_of(program: int, key_size: int, value_size: int) -> Iterator[Table]:
    """Those that it uses, of these sizes. Raises OSError."""
    numbers = (ctypes.c_uint32 * 4)()
    info = _info(program, struct.pack("<52xIQ", len(numbers), ctypes.addressof(numbers)))
    for number in numbers[: min(struct.unpack_from("<I", info, 52)[0], len(numbers))]:
        made = _bpf(_MAP_BY_ID, struct.pack("<III", number, 0, 0))
        yield Table(key_size, value_size, 0, descriptor=made)


def _info(program: int, asked: bytes = b"") -> bytes:
    info = ctypes.create_string_buffer(asked, 232)
    _bpf(_INFO, struct.pack("<IIQ", program, len(info), ctypes.addressof(info)))
    return info.raw


def _bpf(command: int, attributes: bytes | ctypes.Array[ctypes.c_char]) -> int:
    buffer = ctypes.create_string_buffer(attributes, 144) if isinstance(attributes, bytes) else attributes
    result = int(_libc.syscall(ctypes.c_long(_NUMBER), command, buffer, ctypes.c_uint(len(buffer))))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "bpf")
    return result
