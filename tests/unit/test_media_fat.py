"""FAT file systems as they are written, read back by a reader of the specification."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from fat_reader import read

from isola.host.media.fat import fat

FILES = {
    "user-data": b"#cloud-config\n",
    "meta-data": bytes(range(256)) * 20,
    "EFI/BOOT/BOOTX64.EFI": b"MZ" + bytes(70000),
    "EFI/debian/grub.cfg": b"configfile\n",
    "a name with spaces and an umlaut \u00fc that is rather long.text": b"x",
    "empty": b"",
}


@pytest.mark.parametrize("size", [0, 16 << 20, 64 << 20])
def test_files_are_read_back(size: int) -> None:
    volume = fat("cidata", FILES, size=size, serial=0x1234ABCD).whole()
    assert read(volume) == FILES
    assert volume[510:512] == b"\x55\xaa" and volume[43:54] == b"cidata     "
    assert not size or len(volume) == size


def test_the_label_is_the_first_entry() -> None:
    volume = fat("cidata", {}).whole()
    table_size = struct.unpack_from("<H", volume, 22)[0]
    root = (1 + 2 * table_size) * 512
    assert volume[root : root + 12] == b"cidata     \x08"


def test_the_same_input_gives_the_same_bytes_and_times_are_those_given() -> None:
    moment = datetime(2026, 11, 22, 10, 30, 8, tzinfo=UTC)
    first, second = (fat("a", order, modified=moment).whole() for order in (FILES, dict(reversed(FILES.items()))))
    assert first == second
    assert first != fat("a", FILES).whole()


def test_a_large_file_has_larger_clusters() -> None:
    data = bytes(range(256)) * (33 << 12)
    volume = fat("a", {"large": data})
    assert read(volume.whole()) == {"large": data}


@pytest.mark.parametrize("path", ["", "a//b", "../a", "a\\b", "con:", "a/../b", "x" * 256, "nul\0"])
def test_impossible_names_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="name"):
        fat("a", {path: b""})


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="fit"):
        fat("a", {"large": bytes(17 << 20)}, size=16 << 20)
    with pytest.raises(ValueError, match="root"):
        fat("a", {f"file{number}": b"" for number in range(600)})
    with pytest.raises(ValueError, match="directory"):
        fat("a", {"a": b"", "a/b": b""})
