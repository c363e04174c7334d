"""Truncating, keeping and dropping output of programs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import HostFailure
from isola.host.capture import Head, Lines, Tail


def told(*blocks: bytes, longest: int = 65536) -> list[str]:
    lines: list[str] = []
    cutter = Lines(lines.append, longest)
    for block in blocks:
        cutter.take(block)
    cutter.end()
    return lines


def test_lines_end_by_newline_return_or_both() -> None:
    assert told(b"one\ntwo\rthree\r\nfour") == ["one", "two", "three", "four"]


def test_a_line_may_come_in_pieces() -> None:
    assert told(b"o", b"ne\ntw", b"o\r", b"\nthree") == ["one", "two", "three"]


def test_a_letter_may_come_in_pieces() -> None:
    assert told("è".encode()[:1], "è".encode()[1:] + b"\n") == ["è"]


def test_bytes_that_are_no_text_are_shown_somehow() -> None:
    assert told(b"\xff\xfe\n") == ["\ufffd\ufffd"]


def test_a_line_without_an_end_is_told_in_pieces() -> None:
    lines = told(*[b"x" * 100] * 10, longest=250)
    assert "".join(lines) == "x" * 1000
    assert len(lines) > 2


@given(st.lists(st.binary(max_size=20)))
def test_where_blocks_are_cut_does_not_matter(blocks: list[bytes]) -> None:
    assert told(*blocks) == told(b"".join(blocks))


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(1, 200))
def test_tail_keeps_the_end_and_not_much_more(blocks: list[bytes], limit: int) -> None:
    tail, everything = Tail(limit), b"".join(blocks)
    for block in blocks:
        tail.take(block)
    kept = tail.content()
    assert everything.endswith(kept)
    assert min(limit, len(everything)) <= len(kept) < limit + 50


def test_head_refuses_what_is_too_much() -> None:
    head = Head(10, lambda: HostFailure("too much"))
    head.take(b"12345")
    head.take(b"67890")
    assert head.content() == b"1234567890"
    with pytest.raises(HostFailure):
        head.take(b"x")
