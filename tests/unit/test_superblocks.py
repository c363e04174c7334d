"""Kinds of file systems by their magic numbers."""

from __future__ import annotations

import pytest

from isola.host.superblocks import HEAD, kind_of, options_of


@pytest.mark.parametrize(
    ("at", "magic", "kind"),
    [
        (1080, b"\x53\xef", "ext4"),
        (0, b"XFSB", "xfs"),
        (65600, b"_BHRfS_M", "btrfs"),
        (32769, b"CD001", "iso9660"),
        (82, b"FAT32", "vfat"),
        (54, b"FAT16", "vfat"),
        (0, b"hsqs", "squashfs"),
        (1024, b"\x10\x20\xf5\xf2", "f2fs"),
        (0, b"LUKS", ""),
        (1081, b"\x53\xef", ""),
    ],
)
def test_kinds(at: int, magic: bytes, kind: str) -> None:
    head = bytearray(HEAD)
    head[at : at + len(magic)] = magic
    assert kind_of(bytes(head)) == kind
    assert kind_of(bytes(head[: at + 1])) == "", "cut off"


def test_an_error_of_the_file_system_does_not_panic_the_host() -> None:
    assert options_of("ext4") == {"errors": "remount-ro"}
    assert options_of("xfs") == {}
