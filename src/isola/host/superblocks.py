"""Which file system is on a block device, by the magic numbers of those that may be mounted. Pure."""

from __future__ import annotations

HEAD = 66 << 10
"""Bytes from the beginning of the device that are looked at."""
_MAGIC = (
    ("xfs", 0, b"XFSB"),
    ("squashfs", 0, b"hsqs"),
    ("vfat", 54, b"FAT1"),
    ("vfat", 82, b"FAT32"),
    ("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    ("iso9660", 32769, b"CD001"),
    ("btrfs", 65600, b"_BHRfS_M"),
    ("ext4", 1080, b"\x53\xef"),
)
"""Kind, place and bytes; the shortest comes last."""
_OPTIONS = {"ext4": {"errors": "remount-ro"}}
"""What it is mounted with: a superblock may say that the host is to panic at an error."""


def kind_of(head: bytes) -> str:
    """The kind of file system as the kernel calls it; empty if there is none that is known."""
    return next((kind for kind, at, magic in _MAGIC if head[at : at + len(magic)] == magic), "")


def options_of(kind: str) -> dict[str, str]:
    """Mount options for a file system that others may have written."""
    return dict(_OPTIONS.get(kind, {}))
