"""Files that a hypervisor starts directly as a kernel: their format, from their headers. Pure; input is hostile."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from isola.errors import InvalidInput, Unsupported

HEAD = 64 << 10
"""How many of its first bytes are looked at."""
LARGEST = 512 << 20
"""Bytes of a kernel or of its initial file system."""
_SETUP_MAGIC, _BOOT_FLAG = b"HdrS", 0xAA55
_OLDEST_PROTOCOL, _LOADED_HIGH, _SECTOR = 0x200, 1, 512
_MULTIBOOT, _MULTIBOOT_2 = 0x1BADB002, 0xE85250D6
_MULTIBOOT_IN, _VIDEO, _PLACED = 8192, 1 << 2, 1 << 16
_ELF, _PE, _GZIP = b"\x7fELF", b"MZ", b"\x1f\x8b"
_LITTLE, _EXECUTABLE, _SHARED = 1, 2, 3
_I386, _X86_64 = 3, 62
_LOAD, _NOTE = 1, 4
_MOST_SEGMENTS, _LONGEST_NOTES = 64, 64 << 10
_HIGHEST = 4 << 30
"""Where memory below the hole for devices ends at the latest."""
_XEN, _PHYS32_ENTRY = b"Xen\0", 18


class Format(StrEnum):
    """How a kernel is started."""

    BZIMAGE = "bzImage"
    MULTIBOOT = "multiboot"
    PVH = "pvh"


@dataclass(frozen=True, slots=True)
class Headers:
    """What the first bytes of a kernel say."""

    format: Format | None
    """None: its notes decide, which are elsewhere in the file."""
    notes: tuple[tuple[int, int], ...] = ()
    """Offset and size of these."""
    memory: int = 0
    """Bytes up to the end of what is loaded; 0: not known."""


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    size: int
    address: int
    memory: int


def headers(head: bytes, size: int) -> Headers:
    """From the first ``HEAD`` bytes of a file with this size. Raises InvalidInput, Unsupported."""
    if not 0 < size <= LARGEST:
        raise _wrong(f"has {size} bytes; from 1 to {LARGEST} are expected")
    head = head[: min(HEAD, size)]
    if head[0x202:0x206] == _SETUP_MAGIC:
        return _bzimage(head, size)
    multiboot = _multiboot(head)
    if head.startswith(_ELF):
        return _elf(head, size, multiboot=multiboot is not None)
    if multiboot is not None:
        return _placed(head, size, multiboot)
    raise _unknown(head)


def is_pvh(notes: bytes) -> bool:
    """Whether the notes of an ELF file have the entry point of PVH. Raises InvalidInput."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        if max(name_size, size) > _LONGEST_NOTES:
            raise _wrong("has a note of impossible size")
        name = notes[at + 12 : at + 12 + name_size]
        value = at + 12 + _padded(name_size)
        if (name, kind) == (_XEN, _PHYS32_ENTRY):
            if size not in (4, 8) or value + size > len(notes):
                raise _wrong("has no complete entry point")
            return int.from_bytes(notes[value : value + size], "little") < _HIGHEST
        at = value + _padded(size)
    return False


def no_entry() -> InvalidInput:
    """For an ELF file that is neither multiboot nor PVH."""
    return _wrong(
        "is an ELF file without a multiboot header and without an entry point of PVH",
        remedy="build it for multiboot 1, PVH (XEN_ELFNOTE_PHYS32_ENTRY), or as bzImage",
    )


def _bzimage(head: bytes, size: int) -> Headers:
    if len(head) < 0x264:
        raise _wrong("ends within its setup header")
    flag, version = struct.unpack_from("<H", head, 0x1FE)[0], struct.unpack_from("<H", head, 0x206)[0]
    if flag != _BOOT_FLAG or version < _OLDEST_PROTOCOL:
        raise _wrong("has a setup header without its boot flag, or of an unknown protocol")
    if not head[0x211] & _LOADED_HIGH:
        raise Unsupported("The kernel is a zImage, which is loaded below 1 MiB", remedy="build a bzImage")
    if ((head[0x1F1] or 4) + 1) * _SECTOR >= size:
        raise _wrong("ends within its setup code")
    return Headers(Format.BZIMAGE)


def _multiboot(head: bytes) -> int | None:
    """Offset of its header."""
    for at in range(0, min(len(head), _MULTIBOOT_IN) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", head, at)
        if magic == _MULTIBOOT and (magic + flags + checksum) & 0xFFFFFFFF == 0:
            return at
    return None


def _placed(head: bytes, size: int, at: int) -> Headers:
    """Not an ELF file: its header has to say where it is loaded."""
    if at + 32 > len(head):
        raise _wrong("ends within its multiboot header")
    _, flags, _, header, load, load_end, bss_end, entry = struct.unpack_from("<8I", head, at)
    if not flags & _PLACED:
        raise _wrong("has a multiboot header without load addresses, and is not an ELF file")
    starts = at - (header - load)
    end = load_end or load + size - starts
    last = max(end, bss_end)
    if not (load <= header and 0 <= starts <= size and load <= end and end - load <= size - starts):
        raise _wrong("has load addresses outside of the file")
    if not load <= entry < last <= _HIGHEST:
        raise _wrong("has an entry point outside of what is loaded")
    return Headers(Format.MULTIBOOT, memory=last)


def _elf(head: bytes, size: int, *, multiboot: bool) -> Headers:
    segments, wide = _segments(head, size)
    loaded = [each for each in segments if each.kind == _LOAD]
    if not loaded:
        raise _wrong("has nothing that is loaded")
    memory = max(each.address + each.memory for each in loaded)
    if memory > _HIGHEST:
        raise _wrong("is loaded above 4 GiB")
    if multiboot:
        if wide:
            raise Unsupported(
                "The kernel is multiboot in a 64-bit ELF file, which QEMU does not start",
                remedy="convert it: objcopy -O elf32-i386 KERNEL KERNEL32",
            )
        return Headers(Format.MULTIBOOT, memory=memory)
    notes = tuple((each.offset, each.size) for each in segments if each.kind == _NOTE and each.size)
    if any(length > _LONGEST_NOTES for _, length in notes):
        raise _wrong("has notes of impossible size")
    return Headers(None, notes, memory)


def _segments(head: bytes, size: int) -> tuple[list[_Segment], bool]:
    """All of them, and whether the file has the 64-bit form."""
    if len(head) < 52 or head[4] not in (1, 2) or (head[4] == 2 and len(head) < 64):
        raise _wrong("ends within its ELF header, or is of an unknown class")
    wide = head[4] == 2
    kind, machine = struct.unpack_from("<HH", head, 16)
    if head[5] != _LITTLE or machine not in (_I386, _X86_64):
        raise Unsupported("The kernel is for another processor", remedy="build it for x86-64")
    if kind not in (_EXECUTABLE, _SHARED):
        raise _wrong("is an ELF file that is not executable", remedy="link it")
    table = struct.unpack_from("<Q" if wide else "<I", head, 32 if wide else 28)[0]
    entry_size, count = struct.unpack_from("<HH", head, 54 if wide else 42)
    if entry_size != (56 if wide else 32) or not 0 < count <= _MOST_SEGMENTS or table + count * entry_size > len(head):
        raise _wrong("has a table of segments that is not within its first 64 KiB")
    found = [_segment(head, table + number * entry_size, wide=wide) for number in range(count)]
    for each in found:
        if each.kind in (_LOAD, _NOTE) and each.offset + each.size > size:
            raise _wrong("has a segment that ends after the end of the file")
        if each.kind == _LOAD and each.size > each.memory:
            raise _wrong("has a segment that is larger than its place in memory")
    return found, wide


def _segment(head: bytes, at: int, *, wide: bool) -> _Segment:
    if wide:
        kind, _, offset, _, address, size, memory = struct.unpack_from("<IIQQQQQ", head, at)
    else:
        kind, offset, _, address, size, memory = struct.unpack_from("<IIIIII", head, at)
    return _Segment(kind, offset, size, address, memory)


def _unknown(head: bytes) -> InvalidInput | Unsupported:
    if any(struct.unpack_from("<I", head, at)[0] == _MULTIBOOT_2 for at in range(0, min(len(head), HEAD) - 3, 8)):
        return Unsupported(
            "The kernel is multiboot 2, which QEMU does not start", remedy="build it for multiboot 1 or PVH"
        )
    if head.startswith(_GZIP):
        return Unsupported("The kernel is compressed with gzip", remedy="decompress it first")
    if head.startswith(_PE):
        return Unsupported(
            "The kernel is an EFI program, which needs firmware", remedy="run it as a VM, or build an ELF"
        )
    return _wrong("is neither an ELF file, nor multiboot, nor a bzImage", remedy="see how-to/unikernels")


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _wrong(what: str, remedy: str = "") -> InvalidInput:
    return InvalidInput(f"The kernel {what}", field="kernel", remedy=remedy)


async def examine(read: Callable[[int, int], Awaitable[bytes]], size: int) -> Headers:
    """``read``: bytes of the file from an offset on, as many as there are, up to 64 KiB.

    The format is known in the answer. Raises InvalidInput, Unsupported.
    """
    found = headers(await read(0, HEAD), size)
    if found.format is not None:
        return found
    for offset, length in found.notes:
        if is_pvh(await read(offset, length)):
            return replace(found, format=Format.PVH)
    raise no_entry()
