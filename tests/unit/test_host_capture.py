"""Truncating, keeping and dropping output of programs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import HostFailure
from isola.host.capture import Head, Lines, Tail


def lines_of(*blocks: bytes, longest: int = 65536) -> list[str]:
    lines: list[str] = []
    cutter = Lines(lines.append, longest)
    for block in blocks:
        cutter.take(block)
    cutter.end()
    return lines


def test_lines_end_by_newline_return_or_both() -> None:
    assert lines_of(b"one\ntwo\rthree\r\nfour") == ["one", "two", "three", "four"]


def test_a_line_may_arrive_in_blocks() -> None:
    assert lines_of(b"o", b"ne\ntw", b"o\r", b"\nthree") == ["one", "two", "three"]


def test_a_character_may_be_split_between_blocks() -> None:
    assert lines_of("è".encode()[:1], "è".encode()[1:] + b"\n") == ["è"]


def test_invalid_utf8_is_replaced() -> None:
    assert lines_of(b"\xff\xfe\n") == ["\ufffd\ufffd"]


def test_a_long_line_is_reported_in_parts() -> None:
    lines = lines_of(*[b"x" * 100] * 10, longest=250)
    assert "".join(lines) == "x" * 1000
    assert len(lines) > 2


@given(st.lists(st.binary(max_size=20)))
def test_block_boundaries_do_not_matter(blocks: list[bytes]) -> None:
    assert lines_of(*blocks) == lines_of(b"".join(blocks))


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(1, 200))
def test_tail_keeps_the_end_and_not_much_more(blocks: list[bytes], limit: int) -> None:
    tail, everything = Tail(limit), b"".join(blocks)
    for block in blocks:
        tail.take(block)
    kept = tail.content()
    assert everything.endswith(kept)
    assert min(limit, len(everything)) <= len(kept) < limit + 50


def test_head_refuses_too_much_data() -> None:
    head = Head(10, lambda: HostFailure("too much"))
    head.take(b"12345")
    head.take(b"67890")
    assert head.content() == b"1234567890"
    with pytest.raises(HostFailure):
        head.take(b"x")
