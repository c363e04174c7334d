"""Formats of compressed files, which their first bytes tell."""

from __future__ import annotations

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"hsqs", "squashfs"),
)


def compression(start: bytes) -> str:
    """``gzip``, ``bzip2``, ``xz``, ``zstd``, ``lzma``, ``squashfs``, or empty for none."""
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    if start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:  # zstd may begin with a skippable frame
        return "zstd"
    return "lzma" if start.startswith(b"\x5d\x00\x00") else ""
