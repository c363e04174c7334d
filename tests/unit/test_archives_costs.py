"""Costs of hostile archives: CPU time, memory and inodes are linear in the size of the stream."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator

import pytest
from tars import member, raw_header, tar

from isola.errors import InvalidInput, UnsafeArchive
from isola.host.archive.packed import Unpacked
from isola.host.archive.tarstream import TarStream

SECONDS = 3
"""Ten times the cost of normal archives here; quadratic cost is far above it."""


def pax(*records: tuple[str, str], kind: bytes = b"x") -> bytes:
    """An extended header."""
    body = b""
    for key, value in records:
        text = f" {key}={value}\n".encode()
        length = len(text)
        while len(str(length)) + len(text) != length:
            length = len(str(length)) + len(text)
        body += str(length).encode() + text
    return raw_header(kind=kind, size=b"%011o" % len(body)) + body + bytes(-len(body) % 512)


def read(data: bytes) -> tuple[list[object], float]:
    stream, begun = TarStream(io.BytesIO(data).read), time.process_time()
    found: list[object] = list(stream.members())
    return found, time.process_time() - begun


def sparse(map_: bytes) -> bytes:
    header = pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "0"))
    return header + raw_header(size=b"%011o" % len(map_)) + map_


def test_a_sparse_map_that_never_ends_is_refused_soon() -> None:
    """Its first line announces the maximum number of pieces, the rest is one endless number."""
    begun = time.process_time()
    with pytest.raises((UnsafeArchive, InvalidInput)):
        read(sparse(b"262143\n" + b"1" * ((16 << 20) - 7)))
    assert time.process_time() - begun < SECONDS


def test_a_large_sparse_map_is_read_in_one_pass() -> None:
    lines = b"200000\n" + b"0\n0\n" * 200_000
    found, seconds = read(sparse(lines + bytes(-len(lines) % 512)) + bytes(1024))
    assert len(found) == 1
    assert seconds < SECONDS


def test_empty_sparse_pieces_are_dropped() -> None:
    lines = b"3\n0\n0\n0\n4\n9\n0\n"
    header = pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9"))
    data = header + raw_header(size=b"%011o" % 516) + lines + bytes(512 - len(lines)) + b"data" + bytes(508 + 1024)
    (found,), _ = read(data)
    assert getattr(found, "pieces", None) == [(0, 4)]


def test_an_extended_header_has_a_bounded_number_of_records() -> None:
    with pytest.raises(UnsafeArchive, match="too many records"):
        read(pax(*((f"X{number}", "1") for number in range(60_000))))


def test_global_headers_are_not_copied_to_each_member() -> None:
    """60,000 unknown keys precede 8,000 members."""
    keys = [[(f"Y{group}.{number}", "1") for number in range(1000)] for group in range(60)]
    common = b"".join(pax(*some, kind=b"g") + raw_header(name=b"f") for some in keys)
    found, seconds = read(common + raw_header(name=b"f") * 8000 + bytes(1024))
    assert len(found) == 8060
    assert seconds < SECONDS


def test_global_headers_give_no_attributes() -> None:
    """A few bytes would write a block of attributes for every member."""
    data = pax(("SCHILY.xattr.user.a", "b" * 1000), ("uid", "7"), kind=b"g") + tar(member("f"), member("g"))
    found, _ = read(data)
    assert [(getattr(one, "uid", None), getattr(one, "xattrs", None)) for one in found] == [(7, {}), (7, {})]


def test_consecutive_extended_headers_are_limited() -> None:
    with pytest.raises(UnsafeArchive, match="in a row"):
        read(pax(("comment", "x")) * 100 + raw_header() + bytes(1024))


def test_attributes_of_a_member_are_limited() -> None:
    with pytest.raises(UnsafeArchive, match="attributes"):
        read(pax(*((f"SCHILY.xattr.user.a{number}", "") for number in range(1000))) + raw_header() + bytes(1024))


def test_a_small_archive_needs_no_second_thread() -> None:
    """The thread that reads ahead begins when a MiB has been read."""
    seen = list[threading.Thread]()

    def blocks() -> Iterator[bytes]:
        for _ in range(4):
            seen.append(threading.current_thread())
            yield bytes(1 << 19)

    content = Unpacked(blocks(), lambda: 1, limit=1 << 30, ratio=400)
    assert len(content.read(3 << 20)) == 2 << 20
    assert [each is threading.main_thread() for each in seen] == [True, True, False, False]
