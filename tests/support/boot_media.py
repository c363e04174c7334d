"""Discs and disks that machines boot from: an installer for UEFI, and a boot sector for a BIOS. And a disc of data."""

from __future__ import annotations

import struct
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from isola.host.media.fat import fat

_SOURCE = Path(__file__).with_name("efi_installer.c")
_BLOCK = 2048
_PRIMARY, _RECORD, _END, _CATALOG, _ROOT, _IMAGE = 16, 17, 18, 19, 20, 24
"""Blocks of a disc."""
_SIZE = 8 << 20
_FROM_BIOS = bytes.fromhex(
    "31c0 8ed8 be3f7c"  # ds = 0, si = the text
    "bafd03 ec a820 74fb"  # wait until the serial port is free
    "ac 84c0 7406"  # the next letter
    "baf803 ee ebed"  # send it
    "ba0406 b80020 ef"  # turn the machine off, by ACPI
    "f4 ebfd"  # or halt
)


def boot_sector(text: str) -> bytes:
    """A disk whose master boot record says ``text`` on the serial port and turns the machine off."""
    code = _FROM_BIOS.ljust(0x3F, b"\x90") + text.encode() + b"\0"
    return (code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")


def installer(scratch: Path) -> Path:
    """A disc whose boot program installs itself on the first disk; see its source."""
    parts, program, disc = scratch / "installer.o", scratch / "installer.efi", scratch / "installer.iso"
    compiling = [
        "-Os",
        "-ffreestanding",
        "-fno-stack-protector",
        "-fshort-wchar",
        "-mno-red-zone",
        "-mabi=ms",
        "-fno-ident",
    ]
    subprocess.run(["gcc", *compiling, "-c", _SOURCE, "-o", parts], check=True)
    linking = ["-m", "i386pep", "--subsystem", "10", "-e", "efi_main", "-s"]
    subprocess.run(["ld", *linking, parts, "-o", program], check=True)
    disc.write_bytes(_disc({"EFI/BOOT/BOOTX64.EFI": program.read_bytes()}))
    return disc


def data_disc(name: str, content: bytes) -> bytes:
    """ISO 9660 with one file in its root; ``name`` is in upper case, with a dot."""
    text, at = name.encode() + b";1", _ROOT + 1
    where = struct.pack("<I", at) + struct.pack(">I", at) + struct.pack("<I", len(content))
    record = where + struct.pack(">I", len(content)) + bytes(7) + b"\0\0\0" + b"\1\0\0\1" + bytes([len(text)]) + text
    size = 2 + len(record) + len(record) % 2
    files = bytes((size, 0)) + record.ljust(size - 2, b"\0")
    blocks = {
        _PRIMARY: _primary(at + -(-len(content) // _BLOCK)),
        _RECORD: b"\xffCD001\1",
        _ROOT: _directory(b"\0") + _directory(b"\1") + files,
    }
    head = b"".join(blocks.get(number, b"").ljust(_BLOCK, b"\0") for number in range(at))
    return head + content.ljust(-(-len(content) // _BLOCK) * _BLOCK, b"\0")


def _disc(files: dict[str, bytes]) -> bytes:
    """ISO 9660 without files of its own, and El Torito's entry of a boot image for UEFI."""
    image = bytearray(_SIZE)
    for piece in fat("INSTALL", files, size=_SIZE, serial=1, modified=datetime(2020, 1, 1, tzinfo=UTC)).pieces:
        image[piece.offset : piece.offset + len(piece.data)] = piece.data
    blocks = {
        _PRIMARY: _primary(_IMAGE + _SIZE // _BLOCK),
        _RECORD: b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", _CATALOG),
        _END: b"\xffCD001\1",
        _CATALOG: _catalog(),
        _ROOT: _directory(b"\0") + _directory(b"\1"),
    }
    head = b"".join(blocks.get(number, b"").ljust(_BLOCK, b"\0") for number in range(_IMAGE))
    return head + bytes(image)


def _primary(blocks: int) -> bytes:
    text = (
        b"\1CD001\1\0"
        + b" " * 32
        + b"ISOLA".ljust(32)
        + bytes(8)
        + struct.pack("<I", blocks)
        + struct.pack(">I", blocks)
    )
    text += bytes(32) + struct.pack("<H", 1) + struct.pack(">H", 1) + struct.pack("<H", 1) + struct.pack(">H", 1)
    text += struct.pack("<H", _BLOCK) + struct.pack(">H", _BLOCK)
    return text.ljust(156, b"\0") + _directory(b"\0")


def _directory(name: bytes) -> bytes:
    place, size = (
        struct.pack("<I", _ROOT) + struct.pack(">I", _ROOT),
        struct.pack("<I", _BLOCK) + struct.pack(">I", _BLOCK),
    )
    return bytes((34, 0)) + place + size + bytes(7) + b"\2\0\0" + b"\1\0\0\1" + b"\1" + name


def _catalog() -> bytes:
    first = bytearray(b"\1\xef\0\0".ljust(30, b"\0") + b"\x55\xaa")
    total = sum(struct.unpack("<16H", bytes(first))) & 0xFFFF
    first[28:30] = struct.pack("<H", -total & 0xFFFF)
    entry = struct.pack("<BBHBBHI", 0x88, 0, 0, 0, 0, _SIZE // 512, _IMAGE)
    return bytes(first) + entry
