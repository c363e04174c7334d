"""The kernel inside of a bzImage, as the installation takes it out."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "install/uncompress"
NOTE = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", 0x1000000)
SECTIONS, FURTHER = 2, b"addresses that are changed for another place"


def elf(note: bytes = NOTE) -> bytes:
    """Its table of sections is its end."""
    body = bytearray(64) + note + b"code" * 100
    body[:5] = b"\x7fELF\2"
    struct.pack_into("<Q", body, 0x28, len(body))
    struct.pack_into("<HH", body, 0x3A, 64, SECTIONS)
    return bytes(body) + bytes(64 * SECTIONS)


def lz4(data: bytes) -> bytes:
    """One block of literals alone, in the old format of files."""
    rest = len(data) - 15
    block = b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + data
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


def zstd(data: bytes) -> bytes:
    """One raw block; its size is in the header."""
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + struct.pack("<I", len(data) << 3 | 1)[:3] + data


def bzimage(payload: bytes, size: int) -> bytes:
    payload += struct.pack("<I", size)
    image = bytearray(1024)
    image[0x1F1] = 1
    struct.pack_into("<4sH", image, 0x202, b"HdrS", 0x20F)
    struct.pack_into("<II", image, 0x248, 32, len(payload))
    return bytes(image) + bytes(32) + payload + b"setup of the end"


def unpacked(place: Path, image: bytes) -> bytes | str:
    """The kernel, or why there is none."""
    (place / "in").write_bytes(image)
    argv = [sys.executable, "-IS", str(PROGRAM), str(place / "in"), str(place / "out")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        return (place / "out").read_bytes()
    assert not (place / "out").exists()
    return done.stderr


@pytest.mark.parametrize("pack", [lz4, zstd, gzip.compress, lzma.compress])
def test_the_elf_file_is_taken_out_alone(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    whole = elf() + FURTHER
    assert unpacked(tmp_path, bzimage(pack(whole), len(whole))) == elf()


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"\x7fELF" + bytes(2000), "no bzImage"),
        (b"", "no bzImage"),
        (bzimage(b"BZh9" + bytes(99), 5000), "begins with 425a68"),
        (bzimage(lz4(elf()), 1 << 30), "begins with 02214c18"),
        (bzimage(lz4(elf()), len(elf()) + 1), ""),
        (bzimage(lz4(elf())[:-9], len(elf())), "LZ4 data"),
        (bzimage(zstd(elf())[:-9], len(elf())), "zstd"),
        (bzimage(gzip.compress(elf())[:40], len(elf())), ""),
        (bzimage(gzip.compress(elf(note=b"")), len(elf(note=b""))), "entry for hypervisors"),
        (bzimage(gzip.compress(b"text" * 500), 2000), "no ELF file"),
    ],
)
def test_what_cannot_be_taken_out_is_said_and_nothing_written(tmp_path: Path, image: bytes, why: str) -> None:
    said = unpacked(tmp_path, image)
    assert isinstance(said, str) and "is used as it is" in said and why in said
