"""Fuzzing of the tar reader: it returns members, or raises one of its documented errors."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tars import directory, hard_link, member, packed, raw_header, symlink, tar

from isola.errors import InvalidInput, IsolaError, UnsafeArchive
from isola.host.archive.formats import compression
from isola.host.archive.packed import Unpacked, unpacked
from isola.host.archive.tarstream import Member, TarStream
from isola.host.archive.untar import clean

SAMPLE = tar(
    directory("d", pax_headers={"mtime": "1.5"}),
    member("d/" + "n" * 200, b"content", uid=3_000_000, pax_headers={"SCHILY.xattr.user.a": "b"}),
    symlink("l", "t" * 200),
    hard_link("h", "l"),
)


def members(data: bytes) -> list[tuple[Member, bytes]]:
    stream = TarStream(io.BytesIO(data).read)
    return [(found, b"".join(stream.blocks())) for found in stream.members()]


def test_written_archives_are_read_back() -> None:
    (d, _), (file, content), (link, _), (hard, _) = members(SAMPLE)
    assert (d.name.rstrip(b"/"), d.kind, d.mtime) == (b"d", 0x35, 1_500_000_000)
    assert (file.name, file.uid, content) == (b"d/" + b"n" * 200, 3_000_000, b"content")
    assert file.xattrs == {b"user.a": b"b"}
    assert (link.kind, link.link) == (0x32, b"t" * 200)
    assert (hard.kind, hard.link) == (0x31, b"l")


def test_unread_data_is_skipped() -> None:
    stream = TarStream(io.BytesIO(tar(member("a", b"x" * 5000), member("b", b"y"))).read)
    assert [found.name for found in stream.members()] == [b"a", b"b"]


def test_archives_may_end_with_the_last_byte_of_a_file() -> None:
    """Docker's command sends them, for a Dockerfile from its standard input."""
    data = raw_header(name=b"f", size=b"%011o" % 5) + b"hello"
    assert [(found.name, content) for found, content in members(data)] == [(b"f", b"hello")]
    for cut in (data[:-1], data + b"\0"):
        with pytest.raises(InvalidInput, match="truncated"):
            members(cut)


def test_old_directories_and_prefixes() -> None:
    prefixed = bytearray(raw_header(name=b"name"))
    prefixed[345:351] = b"prefix"
    prefixed[148:156] = b" " * 8
    prefixed[148:156] = b"%06o\0 " % sum(prefixed)
    assert members(bytes(prefixed) + bytes(1024))[0][0].name == b"prefix/name"
    assert members(raw_header(name=b"dir/", kind=b"0") + bytes(1024))[0][0].kind == 0x35


def test_global_headers_never_set_names() -> None:
    body = b"13 path=evil\n" + b"12 uid=1234\n"
    common = raw_header(kind=b"g", size=b"%011o" % len(body)) + body.ljust(512, b"\0")
    ((found, _),) = members(common + raw_header(name=b"f") + bytes(1024))
    assert (found.name, found.uid) == (b"f", 1234)


@given(st.binary(max_size=3000))
def test_random_bytes(data: bytes) -> None:
    with contextlib.suppress(InvalidInput, UnsafeArchive):
        members(data)


@settings(max_examples=300)
@given(st.integers(0, len(SAMPLE) - 1), st.binary(min_size=1, max_size=12), st.booleans())
def test_flipped_bytes(place: int, damage: bytes, fix: bool) -> None:
    """Also with a correct checksum, which hostile archives have."""
    data = bytearray(SAMPLE)
    data[place : place + len(damage)] = damage
    if fix:
        start = place - place % 512
        data[start + 148 : start + 156] = b" " * 8
        data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    try:
        members(bytes(data))
    except IsolaError as error:
        assert error.code in ("invalid", "unsafe_archive")


@given(st.integers(0, 400), st.binary(min_size=1, max_size=4), st.sampled_from(["gzip", "bzip2", "xz", "zstd"]))
def test_damaged_compression(place: int, damage: bytes, kind: str) -> None:
    data = bytearray(packed(SAMPLE, kind))
    place %= len(data)
    data[place : place + len(damage)] = damage
    blocks = unpacked(io.BytesIO(bytes(data)), compression(bytes(data[:8])) or kind)
    try:
        Unpacked(blocks, lambda: len(data), limit=1 << 30, ratio=400).drain()
    except IsolaError as error:
        assert error.code in ("invalid", "unsafe_archive")


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_concatenated_streams_are_one(kind: str) -> None:
    data = packed(SAMPLE[:1000], kind) + packed(SAMPLE[1000:], kind)
    content = Unpacked(unpacked(io.BytesIO(data), kind), lambda: len(data), limit=1 << 30, ratio=400)
    assert content.read(1 << 20) == SAMPLE


@pytest.mark.parametrize("size", [1, 7, 512, 100_000])
def test_reads_are_exact(size: int) -> None:
    data = bytes(range(256)) * 1000
    content = Unpacked(iter([data[:10], data[10:150_000], data[150_000:]]), lambda: 1, limit=1 << 30, ratio=400)
    assert b"".join(iter(lambda: content.read(size), b"")) == data


@pytest.mark.parametrize(
    ("name", "parts"),
    [(b"./a//b/", [b"a", b"b"]), (b"/", []), (b"", []), (b"...", [b"..."]), (b"a/..b", [b"a", b"..b"])],
)
def test_names_are_cleaned(name: bytes, parts: list[bytes]) -> None:
    assert clean(name) == parts


@pytest.mark.parametrize("name", [b"..", b"../a", b"a/..", b"a/../b", b"/..", b"a\0b"])
def test_names_that_leave_the_root_are_refused(name: bytes) -> None:
    with pytest.raises(UnsafeArchive):
        clean(name)


def test_same_members_as_the_standard_library() -> None:
    with tarfile.open(fileobj=io.BytesIO(SAMPLE)) as archive:
        assert [info.name for info in archive] == [found.name.decode().rstrip("/") for found, _ in members(SAMPLE)]
