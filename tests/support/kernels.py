"""Tiny kernels for tests: each writes its arguments and ``ready`` on the serial line, and echoes what comes there.

The byte 1 powers the machine off, 2 resets it. The same code for both boot protocols; its source, for ``as --32``::

    mov 16(%ebx), %esi; call print; mov $ready, %esi; call print
    loop: mov $0x3fd, %dx; in %dx, %al; test $1, %al; jz loop; mov $0x3f8, %dx; in %dx, %al
    cmp $1, %al; je off; cmp $2, %al; je reset; out %al, %dx; jmp loop
    off: mov $0x604, %dx; mov $0x2000, %ax; out %ax, %dx; jmp off
    reset: mov $0xfe, %al; out %al, $0x64; jmp reset
    print: mov $0x3f8, %dx; 1: lodsb; test %al, %al; jz 2f; out %al, %dx; jmp 1b; 2: ret
    ready: .asciz "\\nready\\n"
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

LOADED_AT = 0x100000
ENTRY = LOADED_AT + 0x20
READY = b"ready"
OFF, RESET = b"\1", b"\2"
"""What it obeys on the serial line."""
_CODE = bytes.fromhex(
    "8b7310e835000000be6a001000e82b00000066bafd03eca80174f766baf803ec3c0174073c02740feeebe766ba040666b8002066"
    "efebf4b0fee664ebfa66baf803ac84c07403eeebf8c30a72656164790a00"
)
_ARGUMENTS = 2
"""Offset in the code of the offset of the arguments' address in what the loader says."""
_MAGIC = 0x1BADB002
_PLACED = 1 << 16
_PVH = 24


def multiboot(magic: int = _MAGIC, flags: int = _PLACED, **changed: int) -> bytes:
    """Not an ELF file; ``changed``: fields of its header."""
    end = ENTRY + len(_CODE)
    fields = {"header": LOADED_AT, "load": LOADED_AT, "load_end": end, "bss_end": end, "entry": ENTRY} | changed
    return struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, *fields.values()) + _CODE


def place(path: Path) -> None:
    """Write one that every machine but microvm starts."""
    path.write_bytes(multiboot())


SECTOR = Path(__file__).with_name("sector.c")
"""A program that reads and writes a disk, and counts."""
COMPILE = (
    "gcc -m32 -O1 -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none -mno-sse -nostdlib -static -no-pie "
    "-Wl,--build-id=none,-z,max-page-size=4096,--section-start=.multiboot=0x100000,-Ttext=0x101000"
)
"""Makes a kernel of it."""


def sector(path: Path) -> None:
    """Compile it."""
    subprocess.run([*COMPILE.split(), "-o", str(path), str(SECTOR)], check=True, timeout=60)


def pvh(*, note: bytes = b"Xen\0", machine: int = 62, **changed: int) -> bytes:
    """A 64-bit ELF file; ``changed``: fields of the segment that is loaded."""
    code = bytearray(_CODE)
    code[_ARGUMENTS] = _PVH
    notes = struct.pack("<III", len(note), 4, 18) + note + struct.pack("<I", ENTRY)
    start = 64 + 2 * 56
    loaded = {"kind": 1, "flags": 5, "offset": start + len(notes), "virtual": ENTRY, "physical": ENTRY,
              "size": len(code), "memory": len(code), "align": 1} | changed  # fmt: skip
    noted = (4, 4, start, 0, 0, len(notes), len(notes), 4)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, machine, 1, ENTRY, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    return header + struct.pack("<IIQQQQQQ", *loaded.values()) + struct.pack("<IIQQQQQQ", *noted) + notes + code


def bzimage(*, size: int = 8192, flags: int = 1, version: int = 0x20C, sectors: int = 4) -> bytes:
    """Only the headers of one."""
    image = bytearray(size)
    image[0x1F1] = sectors
    struct.pack_into("<H", image, 0x1FE, 0xAA55)
    struct.pack_into("<4sH", image, 0x202, b"HdrS", version)
    image[0x211] = flags
    return bytes(image)
